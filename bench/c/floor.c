/* What does the machine ask for a request at all? epoll, one process, one answer known beforehand, no parsing.
 *
 * floor PORT BODY_BYTES
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, CONNECTIONS = 65536, INPUT = 65536 };

static char *answer;
static size_t answer_bytes;
static size_t unsent[CONNECTIONS];

static void make_answer(size_t body) {
    char head[512];
    int bytes = snprintf(head, sizeof head,
                         "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                         "Cache-Control: public, max-age=3600, no-transform\r\nETag: \"v1-%zu\"\r\n"
                         "Date: Thu, 26 Nov 2026 11:00:00 GMT\r\nAge: 10\r\n\r\n", body, body);
    answer_bytes = bytes + body;
    answer = malloc(answer_bytes);
    memcpy(answer, head, bytes);
    memset(answer + bytes, 'x', body);
}

static int listening(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("floor"); exit(1); }
    return fd;
}

static void send_rest(int fd) {
    while (unsent[fd]) {
        ssize_t sent = write(fd, answer + answer_bytes - unsent[fd], unsent[fd]);
        if (sent <= 0) return;
        unsent[fd] -= sent;
    }
}

int main(int count, char **argument) {
    static char input[INPUT];
    if (count != 3) return 2;
    make_answer(strtoul(argument[2], NULL, 10));
    int loop = epoll_create1(0), listener = listening(atoi(argument[1])), on = 1;
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int many = epoll_wait(loop, ready, EVENTS, -1);
        for (int each = 0; each < many; each++) {
            int fd = ready[each].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0) continue;
                if (client >= CONNECTIONS) { close(client); continue; }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                unsent[client] = 0;
                wanted.events = EPOLLIN | EPOLLOUT | EPOLLET;
                wanted.data.fd = client;
                epoll_ctl(loop, EPOLL_CTL_ADD, client, &wanted);
                continue;
            }
            if (ready[each].events & EPOLLIN) {
                ssize_t got = read(fd, input, sizeof input);
                if (got <= 0) { close(fd); continue; }
                if (got >= 4 && !memcmp(input + got - 4, "\r\n\r\n", 4)) unsent[fd] = answer_bytes;
            }
            send_rest(fd);
        }
    }
}

/* What answers behind the proxies? An origin that costs next to nothing and counts what reaches it.
 *
 * origin PORT
 *   GET .../b2048...        2,048 bytes of JSON that may be stored for an hour
 *   GET ...slow...          the same 30 ms later
 *   GET /_count             how many other requests there were
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, CONNECTIONS = 65536, INPUT = 16384, LARGEST = 1 << 20, DELAY_MS = 30 };

struct connection {
    int fd, have, head_bytes;
    size_t head_sent, body_sent, body_bytes;
    long due; /* milliseconds; 0: at once */
    struct connection *next;
    char input[INPUT], head[512];
};

static struct connection *connections[CONNECTIONS], *delayed;
static char body[LARGEST];
static unsigned long count;

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *date(void) {
    static time_t made;
    static char text[64];
    time_t now = time(NULL);
    if (now != made) strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    made = now;
    return text;
}

/* 1 when everything is sent. */
static int flush(struct connection *c) {
    while (c->head_sent < (size_t)c->head_bytes || c->body_sent < c->body_bytes) {
        struct iovec parts[2] = {{c->head + c->head_sent, c->head_bytes - c->head_sent},
                                 {body + c->body_sent, c->body_bytes - c->body_sent}};
        ssize_t sent = writev(c->fd, parts, 2);
        if (sent <= 0) return 0;
        size_t of_head = (size_t)sent < parts[0].iov_len ? (size_t)sent : parts[0].iov_len;
        c->head_sent += of_head;
        c->body_sent += sent - of_head;
    }
    c->head_bytes = 0;
    return 1;
}

static void answer(struct connection *c, const char *target) {
    const char *size = strstr(target, "/b");
    c->head_sent = c->body_sent = 0;
    c->due = 0;
    if (!strncmp(target, "/_count", 7)) {
        c->body_bytes = 0;
        c->head_bytes = snprintf(c->head, sizeof c->head,
                                 "HTTP/1.1 200 OK\r\nX-Count: %lu\r\nContent-Length: 0\r\n\r\n", count);
        return;
    }
    count++;
    c->body_bytes = size ? strtoul(size + 2, NULL, 10) : 0;
    if (c->body_bytes > LARGEST) c->body_bytes = LARGEST;
    c->head_bytes = snprintf(c->head, sizeof c->head,
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
        "Cache-Control: public, max-age=3600, no-transform\r\nETag: \"v1-%zu\"\r\n"
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n", date(), c->body_bytes, c->body_bytes);
    if (strstr(target, "slow")) {
        c->due = now_ms() + DELAY_MS;
        c->next = delayed;
        delayed = c;
    }
}

/* Answer the heads that are here, one after the other. Requests with bodies are not understood. */
static void serve(struct connection *c) {
    char *end;
    while (!c->head_bytes && c->have && (end = memmem(c->input, c->have, "\r\n\r\n", 4))) {
        char *target = memchr(c->input, ' ', c->have), *after;
        if (!target || !(after = memchr(target + 1, ' ', end - target))) { c->have = 0; return; }
        *after = 0;
        answer(c, target + 1);
        int used = end + 4 - c->input;
        memmove(c->input, c->input + used, c->have -= used);
        if (c->due || !flush(c)) return;
    }
}

static void send_delayed(void) {
    long now = now_ms();
    for (struct connection **at = &delayed; *at;) {
        struct connection *c = *at;
        if (c->due > now) { at = &c->next; continue; }
        *at = c->next;
        c->due = 0;
        if (c->fd < 0) continue;
        if (flush(c)) serve(c);
    }
}

static int listening(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("origin"); exit(1); }
    return fd;
}

static void accept_one(int loop, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
    if (fd < 0) return;
    if (fd >= CONNECTIONS) { close(fd); return; }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c); /* never freed while delayed: a run opens few of them */
    c->fd = fd;
    connections[fd] = c;
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &wanted);
}

static void ready_one(struct connection *c, unsigned events) {
    if (events & EPOLLIN) {
        for (;;) {
            ssize_t got = read(c->fd, c->input + c->have, sizeof c->input - c->have);
            if (got > 0) { c->have += got; if (c->have == sizeof c->input) break; continue; }
            if (got < 0) break;
            close(c->fd);
            connections[c->fd] = NULL;
            if (c->due) c->fd = -1; else free(c);
            return;
        }
    }
    if (c->head_bytes && !c->due && !flush(c)) return;
    serve(c);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    for (size_t at = 0; at < LARGEST; at++) body[at] = "{\"id\":\"job_77\",\"title\":\"Night-shift welder\",\"org\":\"acme\"},"[at % 58];
    int loop = epoll_create1(0), listener = listening(atoi(argv[1]));
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[EVENTS];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int many = epoll_wait(loop, ready, EVENTS, delayed ? 1 : -1);
        for (int each = 0; each < many; each++) {
            int fd = ready[each].data.fd;
            if (fd == listener) accept_one(loop, listener);
            else if (connections[fd]) ready_one(connections[fd], ready[each].events);
        }
        if (delayed) send_delayed();
    }
}

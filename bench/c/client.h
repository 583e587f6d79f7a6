/* A client's connections that wait for nothing, and what is an answer: fill and pace have them in common. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, INPUT = 1 << 19 };

struct connection { int fd, have; char *input; };

static struct connection all[MOST];
static long failures;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void failed(void) {
    perror(program_invocation_short_name);
    exit(1);
}

static void connect_one(struct connection *c, int loop, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->input = malloc(INPUT);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) failed();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &wanted);
}

static void send_all(struct connection *c, const char *head, size_t bytes) {
    if (write(c->fd, head, bytes) != (ssize_t)bytes) failed();
}

/* 1 when the whole answer is here. */
static int received(struct connection *c) {
    ssize_t got = read(c->fd, c->input + c->have, INPUT - c->have - 1);
    if (got <= 0) { fprintf(stderr, "%s: the server closed a connection\n", program_invocation_short_name); exit(1); }
    c->have += got;
    c->input[c->have] = 0;
    char *end = memmem(c->input, c->have, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(c->input, "\r\nContent-Length:");
    size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
    *end = '\r';
    if ((size_t)c->have < end + 4 - c->input + body) return 0;
    failures += memcmp(c->input, "HTTP/1.1 200", 12) != 0;
    c->have = 0;
    return 1;
}

/* How late do answers come at a given rate? An open loop: a request is due when the clock says so, whoever is slow.
 *
 * pace PORT RATE SECONDS CONNECTIONS HEAD_FILE      prints: answers, not-200s, p50, p90, p99, p999, max (microseconds)
 *
 * Latency counts from when a request was due, so waiting for a free connection is part of it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
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

struct connection { int fd, have; double due; char *input; };

static struct connection all[MOST], *idle[MOST];
static int idles, failures;
static char head[16384];
static size_t head_bytes;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void connect_all(int loop, int port, int many) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int each = 0; each < many; each++) {
        struct connection *c = idle[idles++] = &all[each];
        int on = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->input = malloc(INPUT);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { perror("pace"); exit(1); }
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &wanted);
    }
}

/* 1 when the whole answer is here. */
static int received(struct connection *c) {
    ssize_t got = read(c->fd, c->input + c->have, INPUT - c->have - 1);
    if (got <= 0) { fprintf(stderr, "pace: the server closed a connection\n"); exit(1); }
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

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    long total = rate * seconds, begun = 0, done = 0;
    int many = atoi(argv[4]), loop = epoll_create1(0);
    FILE *file = fopen(argv[5], "rb");
    if (!file || many > MOST) return 2;
    head_bytes = fread(head, 1, sizeof head, file);
    connect_all(loop, atoi(argv[1]), many);
    float *latency = malloc((total + 1) * sizeof *latency);
    struct epoll_event ready[64];
    double start = now(), limit = start + seconds * 2 + 1;
    while (done < total && now() < limit) {
        while (begun < total && idles && start + begun / rate <= now()) {
            struct connection *c = idle[--idles];
            c->due = start + begun++ / rate;
            if (write(c->fd, head, head_bytes) != (ssize_t)head_bytes) { perror("pace"); return 1; }
        }
        int found = epoll_wait(loop, ready, 64, 0);
        for (int each = 0; each < found; each++) {
            struct connection *c = ready[each].data.ptr;
            if (!received(c)) continue;
            latency[done++] = (now() - c->due) * 1e6;
            idle[idles++] = c;
        }
    }
    if (done < total) { fprintf(stderr, "pace: the server does not keep up with %.0f a second\n", rate); return 1; }
    qsort(latency, done, sizeof *latency, ascending);
    printf("%ld %d %.1f %.1f %.1f %.1f %.1f\n", done, failures, latency[done / 2], latency[done * 90 / 100],
           latency[done * 99 / 100], latency[done * 999 / 1000], latency[done - 1]);
    return 0;
}

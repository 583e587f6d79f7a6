/* Many readers of one event stream each, which only count: the reading side of a broadcast, at as little CPU as can be.
 *
 * readers PORT HEADS_FILE MARK      a head for each reader, each ended by an empty line; MARK is what a message has in it
 *
 * Prints "open" when each has got its first bytes. Reads lines from its input, each a number of messages to wait for
 * from that line on, and prints "SECONDS" of each, by the clock, from the line to the last message. Ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT = 1 << 18, BATCH = 256 };

struct reader { int fd, opened, kept; char rest[64]; };

static char input[INPUT + 64];
static const char *mark;
static size_t mark_bytes;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Messages in what has arrived; a mark that is cut in two is found with the bytes that follow. */
static long take(struct reader *r) {
    long found = 0;
    memcpy(input, r->rest, r->kept);
    ssize_t got = read(r->fd, input + r->kept, INPUT);
    if (got <= 0) { fprintf(stderr, "a stream has ended\n"); exit(1); }
    char *at = input, *end = input + r->kept + got;
    for (char *next; (next = memmem(at, end - at, mark, mark_bytes)); at = next + mark_bytes) found++;
    size_t left = end - at < (long)mark_bytes - 1 ? (size_t)(end - at) : mark_bytes - 1;
    memcpy(r->rest, end - left, r->kept = left);
    return found;
}

static int opened_all(int port, char *heads, struct reader *all, int loop) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int many = 0;
    for (char *head = heads, *end; (end = strstr(head, "\r\n\r\n")); head = end + 4) {
        struct reader *r = &all[many++];
        r->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(r->fd, (struct sockaddr *)&address, sizeof address)) { perror("readers"); exit(1); }
        if (write(r->fd, head, end + 4 - head) != end + 4 - head) { perror("readers"); exit(1); }
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = r};
        epoll_ctl(loop, EPOLL_CTL_ADD, r->fd, &wanted);
    }
    return many;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    FILE *file = fopen(argv[2], "rb");
    if (!file) { perror(argv[2]); return 1; }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *heads = calloc(size + 1, 1);
    if (fread(heads, 1, size, file) != (size_t)size) return 1;
    mark = argv[3];
    mark_bytes = strlen(mark);
    if (mark_bytes > sizeof((struct reader *)0)->rest) return 2;
    int most = 0;
    for (char *at = heads; (at = strstr(at, "\r\n\r\n")); at += 4) most++;
    struct reader *all = calloc(most, sizeof *all);
    int loop = epoll_create1(0), many = opened_all(atoi(argv[1]), heads, all, loop), opened = 0;
    struct epoll_event asked = {.events = EPOLLIN, .data.ptr = NULL}, ready[BATCH];
    epoll_ctl(loop, EPOLL_CTL_ADD, 0, &asked);
    long messages = 0, goal = -1;
    double began = 0;
    for (;;) {
        int count = epoll_wait(loop, ready, BATCH, -1);
        for (int each = 0; each < count; each++) {
            struct reader *r = ready[each].data.ptr;
            if (!r) {
                char line[32] = {0};
                if (read(0, line, sizeof line - 1) <= 0) return 0;
                goal = atol(line), messages = 0, began = now();
                printf("begun\n"), fflush(stdout);
                continue;
            }
            if (!r->opened++ && ++opened == many) printf("open\n"), fflush(stdout);
            messages += take(r);
        }
        if (goal >= 0 && messages >= goal) {
            printf("%.6f\n", now() - began), fflush(stdout);
            goal = -1;
        }
    }
}

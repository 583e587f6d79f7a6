/* Are all answers right, under load? Clients that ask at random for one of many things and check what they get.
 *
 * mix PORT CONNECTIONS TOTAL SECONDS REQUESTS_FILE
 *
 * Each record of the file: "WEIGHT ITEM KIND EXPECTED_BYTES REQUEST_BYTES\n", then the text that the answer must hold,
 * then the request. ######## in both becomes one and the same random number. KIND r: an answer's `version=N` is not
 * older than the newest that was acknowledged for ITEM when it was asked; w: an answer acknowledges its version.
 * ITEM -1: it has none. A connection is left after a while, and a new one made.
 *
 * Prints a line a second and one at the end: answers, not-2xx, wrong, stale, cut off.
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

enum { MOST = 256, RECORDS = 16384, ITEMS = 65536, INPUT = 1 << 18, LARGEST = 8192, USES = 2000 };

struct record { int weight, item, expected_bytes, request_bytes; char kind; char *expected, *request; };
struct connection { int fd, have, left; long floor; struct record *asked; char digits[32]; char *input; };

static struct record records[RECORDS];
static struct connection all[MOST];
static int many_records, total_weight, loop, port;
static int cumulated[RECORDS];
static long acknowledged[ITEMS], answers, refused, wrong, stale, cut;
static unsigned long long seed = 88172645463325252ULL;

static unsigned long chance(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int read_records(const char *name) {
    FILE *file = fopen(name, "rb");
    struct record *r = records;
    if (!file) return 0;
    while (many_records < RECORDS
           && fscanf(file, "%d %d %c %d %d", &r->weight, &r->item, &r->kind, &r->expected_bytes, &r->request_bytes) == 5) {
        fgetc(file);
        if (r->expected_bytes >= LARGEST || r->request_bytes >= LARGEST || r->item >= ITEMS) return 0;
        r->expected = calloc(1, r->expected_bytes + 1);
        r->request = calloc(1, r->request_bytes + 1);
        if (fread(r->expected, 1, r->expected_bytes, file) != (size_t)r->expected_bytes) return 0;
        if (fread(r->request, 1, r->request_bytes, file) != (size_t)r->request_bytes) return 0;
        total_weight += r->weight;
        cumulated[many_records++] = total_weight;
        r++;
    }
    fclose(file);
    return many_records;
}

static struct record *chosen(void) {
    int goal = chance() % total_weight, low = 0, high = many_records - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (cumulated[middle] > goal) high = middle; else low = middle + 1;
    }
    return &records[low];
}

static void connected(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { perror("mix: connect"); exit(1); }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &wanted);
    c->left = USES / 2 + chance() % USES;
}

static void filled(char *text, const char *from, int bytes, const char *digits) {
    memcpy(text, from, bytes);
    text[bytes] = 0;
    for (char *at = text; (at = strstr(at, "########")); at += 8) memcpy(at, digits, 8);
}

static void ask(struct connection *c) {
    char text[LARGEST];
    if (c->left-- <= 0) {
        close(c->fd);
        connected(c);
    }
    struct record *r = c->asked = chosen();
    snprintf(c->digits, sizeof c->digits, "%08lu", chance() % 100000000);
    c->floor = r->item >= 0 ? acknowledged[r->item] : 0;
    c->have = 0;
    filled(text, r->request, r->request_bytes, c->digits);
    if (write(c->fd, text, r->request_bytes) != r->request_bytes) cut++;
}

static void judge(struct connection *c) {
    char text[LARGEST];
    struct record *r = c->asked;
    answers++;
    if (memcmp(c->input, "HTTP/1.1 2", 10)) {
        if (refused++ < 5) fprintf(stderr, "mix: not 2xx: %.60s <- %.60s\n", c->input, r->request);
        return;
    }
    filled(text, r->expected, r->expected_bytes, c->digits);
    if (!memmem(c->input, c->have, text, r->expected_bytes)) {
        if (wrong++ < 5) fprintf(stderr, "mix: wrong: %.600s <- %.80s\n", c->input, r->request);
        return;
    }
    if (r->item < 0) return;
    char *at = memmem(c->input, c->have, "version=", 8);
    long version = at ? atol(at + 8) : -1;
    if (r->kind == 'w') {
        if (version > acknowledged[r->item]) acknowledged[r->item] = version;
    } else if (version < c->floor && stale++ < 5) {
        fprintf(stderr, "mix: stale: %ld < %ld %.300s <- %.60s\n", version, c->floor, c->input, r->request);
    }
}

/* 1: the whole answer is here, -1: there will be none. */
static int received(struct connection *c) {
    ssize_t got = read(c->fd, c->input + c->have, INPUT - c->have - 1);
    if (got <= 0) return -1;
    c->have += got;
    c->input[c->have] = 0;
    char *end = memmem(c->input, c->have, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(c->input, "\r\nContent-Length:");
    int chunked = !length && strcasestr(c->input, "\r\nTransfer-Encoding: chunked");
    size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
    *end = '\r';
    if (chunked) return c->have >= 5 && !memcmp(c->input + c->have - 5, "0\r\n\r\n", 5);
    return (size_t)c->have >= end + 4 - c->input + body;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    port = atoi(argv[1]);
    int many = atoi(argv[2]);
    long total = atol(argv[3]);
    double start = now(), limit = start + atof(argv[4]), told = start;
    if (many > MOST || !read_records(argv[5])) { fprintf(stderr, "mix: cannot use %s\n", argv[5]); return 2; }
    loop = epoll_create1(0);
    for (int each = 0; each < many; each++) {
        all[each].input = malloc(INPUT);
        connected(&all[each]);
        ask(&all[each]);
    }
    struct epoll_event ready[64];
    while (answers < total && now() < limit) {
        int found = epoll_wait(loop, ready, 64, 100);
        for (int each = 0; each < found; each++) {
            struct connection *c = ready[each].data.ptr;
            int state = received(c);
            if (!state) continue;
            if (state < 0) {
                cut++;
                close(c->fd);
                connected(c);
            } else judge(c);
            ask(c);
        }
        if (now() >= told + 1) {
            told = now();
            printf("%ld %ld %ld %ld %ld\n", answers, refused, wrong, stale, cut);
            fflush(stdout);
        }
    }
    printf("%ld %ld %ld %ld %ld\n", answers, refused, wrong, stale, cut);
    return 0;
}

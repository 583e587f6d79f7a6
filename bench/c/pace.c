/* How late do answers come at a given rate? An open loop: a request is due when the clock says so, whoever is slow.
 *
 * pace PORT RATE SECONDS CONNECTIONS HEAD_FILE      prints: answers, not-200s, p50, p90, p99, p999, max (microseconds)
 *
 * Latency counts from when a request was due, so waiting for a free connection is part of it.
 */
#define _GNU_SOURCE
#include "client.h"

static struct connection *idle[MOST];
static double due[MOST]; /* by the number of the connection */
static int idles;
static char head[16384];
static size_t head_bytes;

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    long total = rate * seconds, begun = 0, done = 0;
    int many = atoi(argv[4]), loop = epoll_create1(0);
    FILE *file = fopen(argv[5], "rb");
    if (!file || many > MOST) return 2;
    head_bytes = fread(head, 1, sizeof head, file);
    while (idles < many) {
        idle[idles] = &all[idles];
        connect_one(idle[idles++], loop, atoi(argv[1]));
    }
    float *latency = malloc((total + 1) * sizeof *latency);
    struct epoll_event ready[64];
    double start = now(), limit = start + seconds * 2 + 1;
    while (done < total && now() < limit) {
        while (begun < total && idles && start + begun / rate <= now()) {
            struct connection *c = idle[--idles];
            due[c - all] = start + begun++ / rate;
            send_all(c, head, head_bytes);
        }
        int found = epoll_wait(loop, ready, 64, 0);
        for (int each = 0; each < found; each++) {
            struct connection *c = ready[each].data.ptr;
            if (!received(c)) continue;
            latency[done++] = (now() - due[c - all]) * 1e6;
            idle[idles++] = c;
        }
    }
    if (done < total) { fprintf(stderr, "pace: the server does not keep up with %.0f a second\n", rate); return 1; }
    qsort(latency, done, sizeof *latency, ascending);
    printf("%ld %ld %.1f %.1f %.1f %.1f %.1f\n", done, failures, latency[done / 2], latency[done * 90 / 100],
           latency[done * 99 / 100], latency[done * 999 / 1000], latency[done - 1]);
    return 0;
}

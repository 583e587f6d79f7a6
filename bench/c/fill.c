/* How does a cache get full? Each of so many requests once, as fast as answers come; for what must be there beforehand.
 *
 * fill PORT FIRST END CONNECTIONS SECONDS TEMPLATE_FILE TOKENS_FILE     prints: answers, those that were not 200
 *
 * In the template {key} is the number of the request, {token} that line of the tokens, {hex} and {n} digits that never
 * come twice. It ends after SECONDS, with however many it has.
 */
#define _GNU_SOURCE
#include "client.h"

enum { PARTS = 64, LINES = 1 << 20 };
enum mark { TEXT, KEY, TOKEN, HEX, NUMBER };

struct part { enum mark mark; const char *text; size_t bytes; };

static struct part parts[PARTS];
static char **lines;
static unsigned salt;
static int part_count;
static long line_count;

static char *contents(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) { perror(name); exit(1); }
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    char *text = calloc(1, bytes + 1);
    rewind(file);
    if (fread(text, 1, bytes, file) != (size_t)bytes) { perror(name); exit(1); }
    return text;
}

static void split(char *text) {
    static const struct { const char *name; enum mark mark; } marks[] = {
        {"{key}", KEY}, {"{token}", TOKEN}, {"{hex}", HEX}, {"{n}", NUMBER}};
    for (char *at = text; *at && part_count < PARTS - 1;) {
        char *brace = strchr(at, '{');
        if (!brace) brace = at + strlen(at);
        parts[part_count++] = (struct part){TEXT, at, brace - at};
        at = brace;
        if (!*at) break;
        unsigned each = 0;
        while (each < 4 && strncmp(at, marks[each].name, strlen(marks[each].name))) each++;
        if (each == 4) { fprintf(stderr, "fill: a mark that is not known\n"); exit(2); }
        parts[part_count++] = (struct part){marks[each].mark, NULL, 0};
        at += strlen(marks[each].name);
    }
}

static void read_lines(char *text) {
    lines = calloc(LINES, sizeof *lines);
    for (char *line = strtok(text, "\n"); line && line_count < LINES; line = strtok(NULL, "\n")) lines[line_count++] = line;
}

static void ask(struct connection *c, long number) {
    char head[16384];
    size_t bytes = 0;
    for (int each = 0; each < part_count; each++) {
        char *at = head + bytes;
        size_t room = sizeof head - bytes;
        switch (parts[each].mark) {
        case TEXT: memcpy(at, parts[each].text, parts[each].bytes); bytes += parts[each].bytes; break;
        case KEY: bytes += snprintf(at, room, "%ld", number); break;
        case TOKEN: bytes += snprintf(at, room, "%s", lines[number % line_count]); break;
        case HEX: bytes += snprintf(at, room, "%06x%010lx", salt, number); break;
        case NUMBER: bytes += snprintf(at, room, "%u0%ld", salt, number); break;
        }
    }
    send_all(c, head, bytes);
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    long begun = atol(argv[2]), end = atol(argv[3]), answers = 0;
    int many = atoi(argv[4]), loop = epoll_create1(0);
    double until = now() + atof(argv[5]);
    split(contents(argv[6]));
    read_lines(contents(argv[7]));
    salt = (unsigned)(now() * 1e6) & 0xffffff;
    if (many > MOST || many > end - begun) many = end - begun < MOST ? end - begun : MOST;
    long under_way = many;
    for (int each = 0; each < many; each++) {
        connect_one(&all[each], loop, atoi(argv[1]));
        ask(&all[each], begun++);
    }
    struct epoll_event ready[64];
    while (under_way && now() < until + 5) {
        int found = epoll_wait(loop, ready, 64, 1000), more = now() < until;
        for (int each = 0; each < found; each++) {
            struct connection *c = ready[each].data.ptr;
            if (!received(c)) continue;
            answers++;
            if (begun < end && more) ask(c, begun++); else under_way--;
        }
    }
    printf("%ld %ld\n", answers, failures);
    return 0;
}

/* One connection's answer: takes the bytes of a response head and body as they come, cut anywhere, and notes the times.
 *
 * Known: status, content-length, chunked, 100 Continue; the ends of events, the mock's time stamps, the completed marker.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "histogram.h"

#define HEAD_MAX 8192

typedef enum { IDLE, CONNECTING, SENDING, WAITING_HEAD, IN_BODY } state;
typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER } chunk_state;

typedef struct {
    int fd;
    state st;
    int want_out, leaves;
    size_t sent;
    double started_at;
    /* head */
    char head[HEAD_MAX];
    int head_len, status, chunked;
    long long length_left; /* -1: until the connection ends */
    /* chunks */
    chunk_state chunk;
    long long chunk_left;
    char size_line[32];
    int size_len, trailer_len;
    /* content */
    int events, stamps, completed, end_pos, last_was_newline, mark_pos, stamp_len;
    char stamp[32];
} conn;

static histogram ttfe, ttfd, lag;
static unsigned long events, bytes_in;
static const char mark[] = "#ts#:";
#define MARK_LEN 5
static const char end_mark[] = "response.completed";
#define END_LEN 18

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void stamp_done(conn *c, double t) {
    c->stamp[c->stamp_len] = 0;
    add(&lag, (t - atof(c->stamp)) * 1e3);
    if (!c->stamps++) add(&ttfd, (t - c->started_at) * 1e3);
}

/* Looks for the ends of events, the stamps and the completed marker; the state survives cuts anywhere. */
static void content(conn *c, const char *p, size_t n, double t) {
    bytes_in += n;
    for (size_t i = 0; i < n; i++) {
        char ch = p[i];
        if (c->mark_pos == MARK_LEN) {
            if ((ch >= '0' && ch <= '9') || ch == '.') {
                if (c->stamp_len < 30) c->stamp[c->stamp_len++] = ch;
                continue;
            }
            stamp_done(c, t);
            c->mark_pos = 0;
        }
        if (ch == mark[c->mark_pos]) {
            if (++c->mark_pos == MARK_LEN) c->stamp_len = 0;
        } else {
            c->mark_pos = ch == mark[0];
        }
        if (ch == end_mark[c->end_pos]) {
            if (++c->end_pos == END_LEN) {
                c->completed = 1;
                c->end_pos = 0;
            }
        } else {
            c->end_pos = ch == end_mark[0];
        }
        if (ch == '\n') {
            if (c->last_was_newline) {
                events++;
                if (!c->events++) add(&ttfe, (t - c->started_at) * 1e3);
            }
            c->last_was_newline = !c->last_was_newline;
        } else if (ch != '\r') {
            c->last_was_newline = 0;
        }
    }
}

/* Takes body bytes; 1 when the answer is whole. */
static int body(conn *c, char *p, size_t n, double t) {
    while (n) {
        if (!c->chunked) {
            size_t k = c->length_left >= 0 && (long long)n > c->length_left ? (size_t)c->length_left : n;
            content(c, p, k, t);
            if (c->length_left < 0) return 0;
            c->length_left -= k;
            return c->length_left == 0;
        }
        size_t k = 1;
        switch (c->chunk) {
        case CHUNK_SIZE:
            if (*p == '\n') {
                c->size_line[c->size_len] = 0;
                c->chunk_left = strtoll(c->size_line, 0, 16);
                c->size_len = c->trailer_len = 0;
                c->chunk = c->chunk_left ? CHUNK_DATA : TRAILER;
            } else if (c->size_len < 30) {
                c->size_line[c->size_len++] = *p;
            }
            break;
        case CHUNK_DATA:
            k = n < (size_t)c->chunk_left ? n : (size_t)c->chunk_left;
            content(c, p, k, t);
            c->chunk_left -= k;
            if (!c->chunk_left) c->chunk = CHUNK_END;
            break;
        case CHUNK_END:
            if (*p == '\n') c->chunk = CHUNK_SIZE;
            break;
        case TRAILER:
            if (*p == '\n') {
                if (!c->trailer_len) return 1;
                c->trailer_len = 0;
            } else if (*p != '\r') {
                c->trailer_len++;
            }
            break;
        }
        p += k;
        n -= k;
    }
    return 0;
}

/* Takes head bytes; returns how many were used, or -1 when the head is too long. */
static long head(conn *c, const char *p, size_t n) {
    size_t used = 0;
    while (used < n) {
        if (c->head_len >= HEAD_MAX - 1) return -1;
        c->head[c->head_len++] = p[used++];
        if (c->head_len < 4 || memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4)) continue;
        c->head[c->head_len] = 0;
        c->status = atoi(c->head + 9);
        if (c->status == 100) {
            c->head_len = 0;
            continue;
        }
        c->chunked = strcasestr(c->head, "\ntransfer-encoding: chunked") != 0;
        char *length = strcasestr(c->head, "\ncontent-length:");
        c->length_left = length ? atoll(length + 16) : -1;
        c->st = IN_BODY;
        break;
    }
    return used;
}

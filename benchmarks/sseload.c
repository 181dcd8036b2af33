/* sseload: a single-threaded epoll load generator for relays of server-sent events over HTTP/1.1.
 *
 *   gcc -O2 -o sseload sseload.c
 *   sseload -u 127.0.0.1:9000 -p /v1/responses -f body.json -c 32 (-n requests | -d seconds) [options]
 *
 *   -H 'Name: value'  a header field, may be repeated
 *   -r seconds        ramp: connections are opened evenly over this time
 *   -A events         leave (close the connection) after this many events; 0: as soon as the request is sent
 *   -P percent        of the requests that leave, when -A is given (100)
 *   -T seconds        hard stop, counted from the start (180)
 *
 * Prints one JSON object. Times are milliseconds:
 *   ttfe   request start to the first whole event
 *   ttfd   request start to the first delta, that is the first event that a user can see
 *   total  request start to the end of the answer
 *   lag    arrival of an event minus the "#ts#:<CLOCK_MONOTONIC>" stamp that the mock upstream wrote into it
 * Counts: requests (ended in any way), started, errors (no whole answer), non200, incomplete (200 without
 * response.completed), aborted (left on purpose, as asked by -A), hard_stop.
 *
 * The client is strict about nothing: it measures, it does not judge. One connection carries one request at a time and
 * is kept alive.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"

#define MAX_ERRORS 5000

static histogram total;
static int ep, leave_after = -1, leave_percent = 100, stopping;
static char *request;
static size_t request_len;
static struct sockaddr_in peer;
static unsigned long opening, started, done, errors, non200, incomplete, aborted, max_requests;
static double stop_at;
static unsigned int dice = 2463534242u;

static void listen_for(conn *c, int what) {
    struct epoll_event e = {.events = what, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void start(conn *c);

static void hang_up(conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->st = IDLE;
    c->want_out = 0;
}

static void leave(conn *c) {
    aborted++;
    done++;
    hang_up(c);
    start(c);
}

static void fail(conn *c) {
    errors++;
    done++;
    hang_up(c);
    if (errors > MAX_ERRORS) stopping = 1;
    else start(c);
}

static void finish(conn *c) {
    add(&total, (now() - c->started_at) * 1e3);
    done++;
    if (c->status != 200) non200++;
    else if (!c->completed) incomplete++;
    c->st = IDLE;
    start(c);
}

static void send_more(conn *c) {
    while (c->sent < request_len) {
        ssize_t k = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno == EAGAIN && !c->want_out) {
                listen_for(c, EPOLLIN | EPOLLOUT);
                c->want_out = 1;
            }
            return; /* any other error shows itself on the next read */
        }
        c->sent += k;
    }
    c->st = WAITING_HEAD;
    if (c->want_out) {
        listen_for(c, EPOLLIN);
        c->want_out = 0;
    }
}

static int roll(void) { /* xorshift: the same mix in every run */
    dice ^= dice << 13;
    dice ^= dice >> 17;
    dice ^= dice << 5;
    return dice % 100;
}

static void begin(conn *c) {
    int fd = c->fd;
    double at = c->started_at;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->started_at = at;
    c->length_left = -1;
    c->leaves = leave_after >= 0 && roll() < leave_percent;
    c->st = SENDING;
    started++;
    send_more(c);
}

static int may_start(void) {
    return !stopping && !(max_requests && started + opening >= max_requests) && !(stop_at && now() >= stop_at);
}

static void start(conn *c) {
    if (!may_start()) return;
    c->started_at = now();
    if (c->fd >= 0) {
        begin(c);
        return;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        perror("sseload: socket (raise ulimit -n)");
        exit(2);
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->st = CONNECTING;
    opening++;
    c->want_out = 1;
    struct epoll_event e = {.events = EPOLLOUT | EPOLLIN, .data.ptr = c};
    if (connect(c->fd, (void *)&peer, sizeof peer) && errno != EINPROGRESS) {
        perror("sseload: connect");
        exit(2);
    }
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}

static void readable(conn *c) {
    static char buf[262144];
    for (int loops = 0; loops < 4; loops++) {
        ssize_t got = recv(c->fd, buf, sizeof buf, 0);
        if (got < 0) {
            if (errno != EAGAIN) fail(c);
            return;
        }
        if (got == 0) {
            if (c->st == IN_BODY && !c->chunked && c->length_left < 0) {
                close(c->fd);
                c->fd = -1;
                finish(c);
            } else if (c->st == IDLE) {
                hang_up(c);
            } else {
                fail(c);
            }
            return;
        }
        double t = now();
        long used = 0;
        if (c->st == SENDING || c->st == WAITING_HEAD) {
            used = head(c, buf, got);
            if (used < 0) {
                fail(c);
                return;
            }
            if (c->st == IN_BODY && !c->chunked && c->length_left == 0) {
                finish(c);
                return;
            }
        }
        if (c->st == IN_BODY && got > used) {
            if (body(c, buf + used, got - used, t)) {
                finish(c);
                return;
            }
            if (c->leaves && leave_after > 0 && c->events >= leave_after) {
                leave(c);
                return;
            }
        }
        if ((size_t)got < sizeof buf) return;
    }
}

static void handle(conn *c, unsigned what) {
    if (c->fd < 0) return;
    if (c->st == CONNECTING) {
        opening -= (what & (EPOLLERR | EPOLLHUP | EPOLLOUT)) != 0;
        if (what & (EPOLLERR | EPOLLHUP)) {
            fail(c);
        } else if (what & EPOLLOUT) {
            listen_for(c, EPOLLIN);
            begin(c);
        }
    } else {
        if (what & EPOLLOUT && c->st == SENDING) send_more(c);
        if (what & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
    }
    if (c->fd >= 0 && c->st == WAITING_HEAD && c->leaves && leave_after == 0) leave(c);
}

static char *slurp(const char *path, size_t *size) {
    struct stat s;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &s)) {
        perror(path);
        exit(2);
    }
    char *data = malloc(s.st_size + 1);
    *size = fread(data, 1, s.st_size, f);
    fclose(f);
    return data;
}

int main(int argc, char **argv) {
    char host[64] = "127.0.0.1", *path = "/v1/responses", *file = 0;
    static char fields[16384];
    int port = 9000, wanted = 1, opened = 0, hard_stop = 0, option;
    double seconds = 0, ramp = 0, limit = 180;
    while ((option = getopt(argc, argv, "u:p:f:c:n:d:H:r:A:P:T:")) != -1) switch (option) {
        case 'u': {
            char *colon = strchr(optarg, ':');
            if (!colon) return 2;
            snprintf(host, sizeof host, "%.*s", (int)(colon - optarg), optarg);
            port = atoi(colon + 1);
            break;
        }
        case 'p': path = optarg; break;
        case 'f': file = optarg; break;
        case 'c': wanted = atoi(optarg); break;
        case 'n': max_requests = atol(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'H':
            if (strlen(fields) + strlen(optarg) + 3 > sizeof fields) return 2;
            strcat(strcat(fields, optarg), "\r\n");
            break;
        case 'r': ramp = atof(optarg); break;
        case 'A': leave_after = atoi(optarg); break;
        case 'P': leave_percent = atoi(optarg); break;
        case 'T': limit = atof(optarg); break;
        default: return 2;
        }
    if (!max_requests && !seconds) max_requests = 1;
    if (!seconds && max_requests < (unsigned long)wanted) wanted = max_requests;

    size_t size = 0;
    char *data = file ? slurp(file, &size) : "";
    request = malloc(size + sizeof fields + 4096);
    request_len = sprintf(request,
                          "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
                          "Accept: text/event-stream\r\n%sContent-Length: %zu\r\n\r\n",
                          path, host, port, fields, size);
    memcpy(request + request_len, data, size);
    request_len += size;

    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    inet_pton(AF_INET, host, &peer.sin_addr);
    ep = epoll_create1(0);
    conn *all = calloc(wanted, sizeof *all);
    for (int i = 0; i < wanted; i++) all[i].fd = -1;

    double began = now();
    if (seconds) stop_at = began + seconds;
    struct epoll_event ready[512];
    for (;;) {
        double t = now();
        int due = ramp > 0 ? (int)((t - began) / ramp * wanted) + 1 : wanted;
        while (opened < wanted && opened < due) start(&all[opened++]);
        int n = epoll_wait(ep, ready, 512, opened < wanted ? 1 : 20);
        for (int i = 0; i < n; i++) handle(ready[i].data.ptr, ready[i].events);
        if (opened == wanted && !may_start()) {
            int busy = 0;
            for (int i = 0; i < wanted && !busy; i++) busy = all[i].st != IDLE;
            if (!busy) break;
        }
        if (now() - began > limit) {
            hard_stop = 1;
            break;
        }
    }

    double elapsed = now() - began;
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    double cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\":%lu,\"started\":%lu,\"errors\":%lu,\"non200\":%lu,\"incomplete\":%lu,\"aborted\":%lu,"
           "\"hard_stop\":%d,\"events\":%lu,\"elapsed\":%.4f,\"mb_in\":%.2f,\"client_cpu\":%.3f",
           done, started, errors, non200, incomplete, aborted, hard_stop, events, elapsed, bytes_in / 1e6, cpu);
    print("ttfe", &ttfe);
    print("ttfd", &ttfd);
    print("total", &total);
    print("lag", &lag);
    puts("}");
    return 0;
}

/* Latencies in buckets of 10 us up to 2 s; beyond that only the maximum is exact. */
#include <stdio.h>

#define BUCKETS 200000
#define BUCKETS_PER_MS 100

typedef struct {
    unsigned long count;
    double max, sum;
    unsigned int bucket[BUCKETS + 1];
} histogram;

static void add(histogram *h, double ms) {
    if (ms < 0) ms = 0;
    h->count++;
    h->sum += ms;
    if (ms > h->max) h->max = ms;
    double place = ms * BUCKETS_PER_MS;
    h->bucket[place >= BUCKETS ? BUCKETS : (int)place]++;
}

static double quantile(const histogram *h, double q) {
    if (!h->count) return -1;
    unsigned long wanted = (unsigned long)(q * (h->count - 1)), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > wanted) return (i + 0.5) / BUCKETS_PER_MS;
    }
    return h->max;
}

static void print(const char *name, const histogram *h) {
    printf(",\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"mean\":%.3f,\"count\":%lu}", name,
           quantile(h, .5), quantile(h, .9), quantile(h, .99), h->max, h->count ? h->sum / h->count : -1, h->count);
}

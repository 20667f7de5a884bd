/* What a lookup costs through glibc: getpwnam_r(3) and its kin, by one or more threads.
 *
 *   lookups -t THREADS -u FIRST_UID -g FIRST_GID -k GIDS_APART -n USER CASE...
 *
 * CASE is op:set; op is pwnam, pwuid, grnam, grgid or grouplist; set is hot (one key), names (a thousand
 * keys in turn) or absent (a thousand that nobody has). Users are u00000, u00001 ..., groups g0000 ...
 * A line for each case: case, threads, median ns a call of the batches, p99 ns of single calls, calls
 * that found something, calls. Batches are timed as a whole, since reading the clock twice costs tens of
 * nanoseconds; the single calls are for the tail alone.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PWNAM, PWUID, GRNAM, GRGID, GROUPLIST, OPS };
enum { HOT, NAMES, ABSENT, SETS };
static const char *const op_names[OPS] = { "pwnam", "pwuid", "grnam", "grgid", "grouplist" };
static const char *const set_names[SETS] = { "hot", "names", "absent" };

#define KEYS 1000
#define BATCHES 7
#define SINGLES 4000
/* Warm is who has seen each key once, or has been at it for long enough. */
static const uint64_t BATCH_NS = 15000000, WARM_NS = UINT64_C(12000000000), SINGLES_NS = 120000000;

static unsigned threads = 1, first_uid = 20000, first_gid = 30000, gids_apart = 1;
static const char *hot_user = "u05000";
static char users[KEYS][16], groups[KEYS][16], absent[KEYS][16];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

static int call(int op, int set, unsigned i, char *buffer, size_t size)
{
    unsigned k = i % KEYS;
    const char *user = set == HOT ? hot_user : set == ABSENT ? absent[k] : users[k];
    const char *group = set == HOT ? groups[500] : set == ABSENT ? absent[k] : groups[k];
    unsigned hot_id = strtoul(hot_user + 1, NULL, 10);
    struct passwd pw, *found_pw;
    struct group gr, *found_gr;
    gid_t gids[256];
    int n = 256;
    switch (op) {
    case PWNAM:
        return getpwnam_r(user, &pw, buffer, size, &found_pw) == 0 && found_pw;
    case PWUID:
        k = set == HOT ? first_uid + hot_id : set == ABSENT ? 900000000 + k : first_uid + k * 10;
        return getpwuid_r(k, &pw, buffer, size, &found_pw) == 0 && found_pw;
    case GRNAM:
        return getgrnam_r(group, &gr, buffer, size, &found_gr) == 0 && found_gr;
    case GRGID:
        k = set == HOT ? first_gid + 500 * gids_apart : set == ABSENT ? 900000000 + k : first_gid + k * gids_apart;
        return getgrgid_r(k, &gr, buffer, size, &found_gr) == 0 && found_gr;
    default:
        return getgrouplist(user, 4294967290u, gids, &n) > 1;
    }
}

struct worker {
    pthread_t thread;
    int op, set;
    double batches[BATCHES];
    uint64_t singles[SINGLES];
    unsigned n_singles;
    unsigned long calls, found;
};
static pthread_barrier_t barrier;

static void *work(void *argument)
{
    struct worker *w = argument;
    size_t size = 1 << 20;
    char *buffer = malloc(size);
    unsigned i = 0;
    uint64_t start, end = now() + WARM_NS;
    for (unsigned n = 0; n < KEYS && now() < end; n++)
        call(w->op, w->set, i++, buffer, size);
    unsigned long batch = 0;
    start = now();
    do {
        call(w->op, w->set, i++, buffer, size);
        batch++;
    } while (now() - start < BATCH_NS);
    pthread_barrier_wait(&barrier);
    for (int b = 0; b < BATCHES; b++) {
        start = now();
        for (unsigned long n = 0; n < batch; n++)
            w->found += call(w->op, w->set, i++, buffer, size);
        w->batches[b] = (double)(now() - start) / batch;
        w->calls += batch;
    }
    pthread_barrier_wait(&barrier);
    end = now() + SINGLES_NS;
    while (w->n_singles < SINGLES && now() < end) {
        start = now();
        call(w->op, w->set, i++, buffer, size);
        w->singles[w->n_singles++] = now() - start;
    }
    free(buffer);
    return NULL;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void measure(int op, int set)
{
    struct worker *w = calloc(threads, sizeof *w);
    double *batches = calloc(threads * BATCHES, sizeof *batches);
    uint64_t *singles = calloc(threads * SINGLES, sizeof *singles);
    unsigned n_batches = 0, n_singles = 0;
    unsigned long calls = 0, found = 0;
    pthread_barrier_init(&barrier, NULL, threads);
    for (unsigned t = 0; t < threads; t++) {
        w[t].op = op;
        w[t].set = set;
        pthread_create(&w[t].thread, NULL, work, &w[t]);
    }
    for (unsigned t = 0; t < threads; t++) {
        pthread_join(w[t].thread, NULL);
        memcpy(batches + n_batches, w[t].batches, sizeof w[t].batches);
        memcpy(singles + n_singles, w[t].singles, w[t].n_singles * sizeof *singles);
        n_batches += BATCHES;
        n_singles += w[t].n_singles;
        calls += w[t].calls;
        found += w[t].found;
    }
    qsort(batches, n_batches, sizeof *batches, by_double);
    qsort(singles, n_singles, sizeof *singles, by_u64);
    printf("%s:%s\t%u\t%.1f\t%lu\t%lu\t%lu\n", op_names[op], set_names[set], threads, batches[n_batches / 2],
           (unsigned long)singles[(size_t)n_singles * 99 / 100], found, calls);
    fflush(stdout);
    pthread_barrier_destroy(&barrier);
    free(w);
    free(batches);
    free(singles);
}

int main(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "t:u:g:k:n:")) != -1)
        switch (option) {
        case 't': threads = atoi(optarg); break;
        case 'u': first_uid = strtoul(optarg, NULL, 10); break;
        case 'g': first_gid = strtoul(optarg, NULL, 10); break;
        case 'k': gids_apart = atoi(optarg); break;
        case 'n': hot_user = optarg; break;
        default: return 2;
        }
    for (int i = 0; i < KEYS; i++) {
        sprintf(users[i], "u%05d", i * 10);
        sprintf(groups[i], "g%04d", i);
        sprintf(absent[i], "nobody.x%04d", i);
    }
    for (; optind < argc; optind++)
        for (int op = 0; op < OPS; op++)
            for (int set = 0; set < SETS; set++) {
                char name[32];
                snprintf(name, sizeof name, "%s:%s", op_names[op], set_names[set]);
                if (strcmp(name, argv[optind]) == 0)
                    measure(op, set);
            }
    return 0;
}

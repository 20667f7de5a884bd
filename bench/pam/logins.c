/* What a login costs: pam_authenticate(3) and, if that succeeded, pam_acct_mgmt(3), by one or more processes; or the
 * floor, an LDAP simple bind on a connection that is kept.
 *
 *   logins pam SERVICE           right|wrong one|many CLIENTS SECONDS FIRST
 *   logins bind URI|URI+starttls right|wrong one|many CLIENTS SECONDS FIRST    (LDAPTLS_CACERT names the CA)
 *   logins login SERVICE USER PASSWORD    one login: its code and ns
 *   logins lookup USER                    getpwnam_r(3): "found", "absent" or its error, and ns
 *
 * `one` is always u05000, `many` a thousand users in turn, beginning with the one numbered FIRST. The password of
 * uNNNNN is pw-uNNNNN. No module's delay after a wrong password is waited for (PAM_FAIL_DELAY, pam_fail_delay(3)):
 * applications may replace that wait, and here it is a function that returns at once.
 * Prints logins, those that ended as they should, the last code that was another, seconds, and the p50 and p99 of a
 * login in ns.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <ldap.h>
#include <pthread.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEYS 1000u
#define MOST 60000u     /* logins of one client */
/* Before anything is counted: a connection is made, a cache is warm. */
#define WARM 20u
#define WARM_NS UINT64_C(400000000)

struct client {
    uint64_t took[MOST];
    unsigned logins, expected;
    int other;
    uint64_t began, ended;
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

static void *or_end(void *made, const char *what)
{
    if (!made) {
        perror(what);
        exit(2);
    }
    return made;
}

/* ---- a login through PAM --------------------------------------------------------------------- */

static int converse(int n, const struct pam_message **messages, struct pam_response **responses, void *password)
{
    struct pam_response *all = or_end(calloc(n, sizeof *all), "calloc");
    for (int i = 0; i < n; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
            all[i].resp = or_end(strdup(password), "strdup");
    *responses = all;
    return PAM_SUCCESS;
}

static void no_delay(int status, unsigned microseconds, void *data)
{
    (void)status, (void)microseconds, (void)data;
}

static int by_pam(const char *service, const char *user, const char *password)
{
    struct pam_conv conversation = { converse, (void *)password };
    pam_handle_t *handle;
    int code = pam_start(service, user, &conversation, &handle);
    if (code != PAM_SUCCESS)
        return code;
    pam_set_item(handle, PAM_FAIL_DELAY, (void *)no_delay);
    code = pam_authenticate(handle, 0);
    if (code == PAM_SUCCESS) {
        code = pam_acct_mgmt(handle, 0);
        if (code == PAM_AUTH_ERR)       /* not to be taken for a wrong password */
            code = PAM_PERM_DENIED;
    }
    pam_end(handle, code);
    return code;
}

/* ---- a bind ---------------------------------------------------------------------------------- */

static LDAP *kept;

static int by_bind(const char *uri, const char *user, const char *password)
{
    char dn[96];
    struct berval secret = { strlen(password), (char *)password };
    if (!kept) {
        int three = LDAP_VERSION3, code;
        const char *plus = strchr(uri, '+');
        char *address = or_end(strndup(uri, plus ? (size_t)(plus - uri) : strlen(uri)), "strndup");
        code = ldap_initialize(&kept, address);
        free(address);
        if (code != LDAP_SUCCESS)
            return code;
        ldap_set_option(kept, LDAP_OPT_PROTOCOL_VERSION, &three);
        if (plus && (code = ldap_start_tls_s(kept, NULL, NULL)) != LDAP_SUCCESS)
            return code;
    }
    snprintf(dn, sizeof dn, "uid=%s,ou=people,dc=example,dc=net", user);
    return ldap_sasl_bind_s(kept, dn, LDAP_SASL_SIMPLE, &secret, NULL, NULL, NULL);
}

/* ---- many of them ---------------------------------------------------------------------------- */

static int (*one_login)(const char *, const char *, const char *);
static const char *where;
static int right, one, wanted;

static int login(unsigned number)
{
    char user[16], password[32];
    snprintf(user, sizeof user, "u%05u", one ? 5000u : number % KEYS * 10u);
    snprintf(password, sizeof password, "%s-%s", right ? "pw" : "no", user);
    return one_login(where, user, password);
}

static void work(struct client *self, unsigned first, unsigned step, uint64_t for_ns, pthread_barrier_t *barrier)
{
    unsigned n = first;
    uint64_t start = now(), last;
    for (unsigned i = 0; i < WARM && (i < 2 || now() - start < WARM_NS); i++, n += step)
        login(n);
    pthread_barrier_wait(barrier);
    self->began = last = now();
    while (self->logins < MOST && last - self->began < for_ns) {
        int code = login(n);
        uint64_t then = now();
        self->took[self->logins++] = then - last;
        last = then;
        n += step;
        if (code == wanted)
            self->expected++;
        else
            self->other = code;
    }
    self->ended = last;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return or_end(memory == MAP_FAILED ? NULL : memory, "mmap");
}

static int many(unsigned clients, uint64_t for_ns, unsigned first)
{
    struct client *all = shared(clients * sizeof *all);
    pthread_barrier_t *barrier = shared(sizeof *barrier);
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(barrier, &attributes, clients);
    for (unsigned i = 0; i < clients; i++) {
        pid_t child = fork();
        if (child < 0)
            return perror("fork"), 2;
        if (child == 0) {
            work(&all[i], first + i, clients, for_ns, barrier);
            _exit(0);
        }
    }
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    unsigned logins = 0, expected = 0;
    int other = 0;
    uint64_t began = UINT64_MAX, ended = 0;
    uint64_t *took = or_end(malloc(clients * sizeof all->took), "malloc");
    for (unsigned i = 0; i < clients; i++) {
        memcpy(took + logins, all[i].took, all[i].logins * sizeof *took);
        logins += all[i].logins;
        expected += all[i].expected;
        other = all[i].expected < all[i].logins ? all[i].other : other;
        began = all[i].began < began ? all[i].began : began;
        ended = all[i].ended > ended ? all[i].ended : ended;
    }
    if (failed || !logins)
        return fprintf(stderr, "a client ended badly (status %d) after %u logins\n", failed, logins), 2;
    qsort(took, logins, sizeof *took, by_size);
    printf("%u\t%u\t%d\t%.6f\t%lu\t%lu\n", logins, expected, other, (ended - began) / 1e9,
           (unsigned long)took[logins / 2], (unsigned long)took[(uint64_t)logins * 99 / 100]);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 5 && !strcmp(arguments[1], "login")) {
        uint64_t start = now();
        int code = by_pam(arguments[2], arguments[3], arguments[4]);
        printf("%d\t%lu\n", code, (unsigned long)(now() - start));
        return 0;
    }
    if (count == 3 && !strcmp(arguments[1], "lookup")) {
        struct passwd entry, *found;
        char room[65536];
        uint64_t start = now();
        int error = getpwnam_r(arguments[2], &entry, room, sizeof room, &found);
        uint64_t took = now() - start;
        printf("%s\t%lu\n", error ? strerrorname_np(error) : found ? "found" : "absent", (unsigned long)took);
        return 0;
    }
    if (count != 8)
        return fputs("see the head of logins.c\n", stderr), 2;
    one_login = strcmp(arguments[1], "pam") ? by_bind : by_pam;
    where = arguments[2];
    right = !strcmp(arguments[3], "right");
    one = !strcmp(arguments[4], "one");
    wanted = one_login == by_pam ? (right ? PAM_SUCCESS : PAM_AUTH_ERR) : (right ? LDAP_SUCCESS : LDAP_INVALID_CREDENTIALS);
    return many(strtoul(arguments[5], NULL, 10), strtod(arguments[6], NULL) * 1e9, strtoul(arguments[7], NULL, 10));
}

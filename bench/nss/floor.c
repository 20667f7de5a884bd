/* The module that does nothing: what glibc itself costs. It answers with constants, "not found" for
 * names that begin with n and ids from 900000000 on; a user whose name begins with m is in 50 groups,
 * any other in 5. */
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/types.h>

static char name[] = "u05000", password[] = "*", home[] = "/home/u05000", shell[] = "/bin/bash";
static char *members[] = { NULL };

static enum nss_status user(struct passwd *p)
{
    p->pw_name = p->pw_gecos = name;
    p->pw_passwd = password;
    p->pw_dir = home;
    p->pw_shell = shell;
    p->pw_uid = 25000;
    p->pw_gid = 30100;
    return NSS_STATUS_SUCCESS;
}

static enum nss_status group(struct group *g)
{
    g->gr_name = name;
    g->gr_passwd = password;
    g->gr_gid = 30500;
    g->gr_mem = members;
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_floor_getpwnam_r(const char *n, struct passwd *p, char *b, size_t s, int *e)
{
    (void)b, (void)s, (void)e;
    return n[0] == 'n' ? NSS_STATUS_NOTFOUND : user(p);
}

enum nss_status _nss_floor_getpwuid_r(uid_t u, struct passwd *p, char *b, size_t s, int *e)
{
    (void)b, (void)s, (void)e;
    return u >= 900000000 && u < 1000000000 ? NSS_STATUS_NOTFOUND : user(p);
}

enum nss_status _nss_floor_getgrnam_r(const char *n, struct group *g, char *b, size_t s, int *e)
{
    (void)b, (void)s, (void)e;
    return n[0] == 'n' ? NSS_STATUS_NOTFOUND : group(g);
}

enum nss_status _nss_floor_getgrgid_r(gid_t n, struct group *g, char *b, size_t s, int *e)
{
    (void)b, (void)s, (void)e;
    return n >= 900000000 && n < 1000000000 ? NSS_STATUS_NOTFOUND : group(g);
}

enum nss_status _nss_floor_initgroups_dyn(const char *n, gid_t skip, long *start, long *size, gid_t **gids,
                                          long limit, int *e)
{
    (void)skip, (void)limit, (void)e;
    if (n[0] == 'n')
        return NSS_STATUS_NOTFOUND;
    for (int i = 0; i < (n[0] == 'm' ? 50 : 5) && *start < *size; i++)
        (*gids)[(*start)++] = 30100 + 200 * i;
    return NSS_STATUS_SUCCESS;
}

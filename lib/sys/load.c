#include "sys/load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* Files of the kernel are short, but for the mounts of a machine full of containers. */
enum { PATH = 512, LINE = 8192, GROUPS = 16, MOUNTS = 256 * 1024 };

#define SOON_NS 10000000

/* A group: its folder, and in version 1 that of its accounts; counters of the reading before. */
typedef struct group {
    char dir[PATH], account[PATH];
    bool v2, known;
    uint64_t used_us;
} group;

/* A counter of time that somebody waited. */
typedef struct waiting {
    char path[PATH];
    bool known;
    uint64_t total_us;
} waiting;

struct ss_load {
    char root[PATH];
    group group[GROUPS];
    int ngroup;
    waiting waiting[2]; /* of the machine, of the group */
    bool known;
    uint64_t busy, all; /* of /proc/stat */
    int64_t then_ns;
    ss_load_sample last;
    bool said;
};

/* ---- files ---- */

/* Text of a file, cut off at `room`. Negative: it is not there or cannot be read. */
static int read_text(const char *path, char *to, size_t room)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t n = 0;
    ssize_t k = 0;
    while (n + 1 < room && ((k = read(fd, to + n, room - 1 - n)) > 0 || (k < 0 && errno == EINTR)))
        n += k > 0 ? (size_t)k : 0;
    close(fd);
    to[n] = 0;
    return k < 0 ? -EIO : (int)n;
}

static bool in_folder(const char *dir, const char *name, char *path)
{
    return snprintf(path, PATH, "%s/%s", dir, name) < PATH;
}

/* A decimal number and where it ends; no sign. */
static bool number(const char *text, uint64_t *v, const char **end)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *v = strtoull(text, &stop, 10);
    if (end)
        *end = stop;
    return !errno;
}

static const char *next_line(const char *text)
{
    text += strcspn(text, "\n");
    return text + (*text == '\n');
}

/* The number behind a word at the start of a line. */
static bool number_after(const char *text, const char *word, uint64_t *v)
{
    size_t n = strlen(word);
    for (; *text; text = next_line(text))
        if (!strncmp(text, word, n))
            return number(text + n, v, NULL);
    return false;
}

/* ---- where the group is ---- */

/* Is `word` among those of a list with commas? */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (; *list; list += strcspn(list, ","), list += *list == ',')
        if (strcspn(list, ",") == n && !strncmp(list, word, n))
            return true;
    return false;
}

/* "4:cpu,cpuacct:/a/b" for a controller of version 1, "0::/a/b" when it is NULL. */
static bool group_path(const char *groups, const char *controller, char *to)
{
    for (const char *line = groups; *line; line = next_line(line)) {
        char text[LINE];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "\n"), line);
        char *names = strchr(text, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path = 0;
        if (controller ? listed(names + 1, controller) : !names[1])
            return snprintf(to, PATH, "%s", path + 1) < PATH;
    }
    return false;
}

/* Where a hierarchy is mounted, and which folder of it: fields 5 and 4 of mountinfo; NULL: version 2. */
static bool mounted(char *mounts, const char *controller, char *root, char *point)
{
    for (char *line = mounts; *line;) {
        size_t n = strcspn(line, "\n");
        char text[LINE];
        snprintf(text, sizeof text, "%.*s", (int)(n < LINE ? n : 0), line);
        line += n + (line[n] == '\n');
        char *tail = strstr(text, " - "), *save, *field[5], *type, *options;
        if (!tail)
            continue;
        *tail = 0;
        int i = 0;
        for (char *p = strtok_r(text, " ", &save); p && i < 5; p = strtok_r(NULL, " ", &save))
            field[i++] = p;
        type = strtok_r(tail + 3, " ", &save);
        strtok_r(NULL, " ", &save);
        options = strtok_r(NULL, " ", &save);
        if (i < 5 || !type || strcmp(type, controller ? "cgroup" : "cgroup2") ||
            (controller && (!options || !listed(options, controller))))
            continue;
        return snprintf(root, PATH, "%s", field[3]) < PATH && snprintf(point, PATH, "%s", field[4]) < PATH;
    }
    return false;
}

/* Folder of this process's group: its path below what is mounted, or the mount itself. `up`: how many of its
 * last parts may be taken off. */
static bool group_folder(const ss_load *l, char *mounts, const char *groups, const char *controller,
                         char *dir, int *up)
{
    char path[PATH], root[PATH], point[PATH];
    if (!group_path(groups, controller, path) || !mounted(mounts, controller, root, point))
        return false;
    size_t n = strlen(root);
    const char *below = path;
    if (n > 1)
        below = !strncmp(path, root, n) && (path[n] == '/' || !path[n]) ? path + n : "";
    if (strstr(below, "..") || !strcmp(below, "/"))
        below = "";
    *up = 0;
    for (const char *p = below; *p; p++)
        *up += *p == '/';
    return snprintf(dir, PATH, "%s%s%s", l->root, point, below) < PATH;
}

static void chop(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
}

static void add_groups(ss_load *l, bool v2, char *dir, char *account, int up)
{
    for (; up >= 0 && l->ngroup < GROUPS; up--) {
        group *g = &l->group[l->ngroup++];
        g->v2 = v2;
        strcpy(g->dir, dir);
        strcpy(g->account, account);
        chop(dir);
        chop(account);
    }
}

static void find_groups(ss_load *l, char *mounts)
{
    char groups[LINE], path[PATH], dir[PATH], account[PATH];
    int up, up2;
    if (!in_folder(l->root, "proc/self/cgroup", path) || read_text(path, groups, sizeof groups) < 0 ||
        !in_folder(l->root, "proc/self/mountinfo", path) || read_text(path, mounts, MOUNTS) < 0)
        return;
    if (group_folder(l, mounts, groups, NULL, dir, &up)) {
        if (!in_folder(dir, "cpu.pressure", l->waiting[1].path))
            *l->waiting[1].path = 0;
        strcpy(account, dir);
        add_groups(l, true, dir, account, up);
    }
    /* The accounts of a group are in a hierarchy of their own, where it may have another place: then nothing
     * can be said. */
    if (group_folder(l, mounts, groups, "cpu", dir, &up) &&
        group_folder(l, mounts, groups, "cpuacct", account, &up2)) {
        char a[PATH], b[PATH];
        if (group_path(groups, "cpu", a) && group_path(groups, "cpuacct", b) && !strcmp(a, b) && up == up2)
            add_groups(l, false, dir, account, up);
    }
}

int ss_load_open(ss_load **out, const char *root, ss_err *e)
{
    *out = NULL;
    ss_load *l = ss_zalloc(1, sizeof *l);
    char *mounts = ss_alloc(MOUNTS, 1);
    if (!l || !mounts) {
        ss_free(l);
        ss_free(mounts);
        return ss_err_set(e, SS_ENOMEM, "processor load: out of memory");
    }
    snprintf(l->root, sizeof l->root, "%s", root ? root : "");
    l->last = (ss_load_sample){NAN, NAN, NAN, NAN};
    if (!in_folder(l->root, "proc/pressure/cpu", l->waiting[0].path))
        *l->waiting[0].path = 0;
    find_groups(l, mounts);
    ss_free(mounts);
    *out = l;
    return SS_OK;
}

void ss_load_close(ss_load **l)
{
    if (l)
        ss_free(*l);
    if (l)
        *l = NULL;
}

/* ---- reading ---- */

static double share(double part, double whole)
{
    return whole > 0 ? fmin(fmax(part / whole, 0), 1) : NAN;
}

/* "cpu  user nice system idle iowait irq softirq steal guest guest_nice": guests are in user and nice. */
static bool read_machine(ss_load *l, double *machine)
{
    char path[PATH], text[LINE];
    const char *p = text + 4;
    uint64_t v[8] = {0}, all = 0;
    int n = 0;
    if (!in_folder(l->root, "proc/stat", path) || read_text(path, text, sizeof text) < 0 ||
        strncmp(text, "cpu ", 4))
        return false;
    for (; n < 8; n++) {
        p += strspn(p, " ");
        if (!number(p, &v[n], &p))
            break;
        all += v[n];
    }
    if (n < 4) /* old kernels have four */
        return false;
    uint64_t busy = all - v[3] - v[4];
    if (l->known && all > l->all && busy >= l->busy)
        *machine = share((double)(busy - l->busy), (double)(all - l->all));
    l->known = true;
    l->busy = busy;
    l->all = all;
    return true;
}

/* Processors that the group may use; 0: as many as there are, or not known. */
static double quota_of(const group *g)
{
    char path[PATH], text[LINE];
    uint64_t quota, period;
    const char *end;
    if (!in_folder(g->dir, g->v2 ? "cpu.max" : "cpu.cfs_quota_us", path) ||
        read_text(path, text, sizeof text) < 0 || !number(text, &quota, &end)) /* "max", "-1" */
        return 0;
    if (!g->v2 && (!in_folder(g->dir, "cpu.cfs_period_us", path) || read_text(path, text, sizeof text) < 0))
        return 0;
    if (!number(g->v2 ? end + strspn(end, " ") : text, &period, NULL) || !quota || !period)
        return 0;
    return (double)quota / (double)period;
}

static bool used_of(const group *g, uint64_t *us)
{
    char path[PATH], text[LINE];
    uint64_t v;
    if (!in_folder(g->account, g->v2 ? "cpu.stat" : "cpuacct.usage", path) ||
        read_text(path, text, sizeof text) < 0)
        return false;
    if (!(g->v2 ? number_after(text, "usage_usec ", &v) : number(text, &v, NULL)))
        return false;
    *us = g->v2 ? v : v / 1000;
    return true;
}

static void read_group(group *g, double passed_us, double *quota)
{
    uint64_t us;
    double processors = quota_of(g);
    if (!processors || !used_of(g, &us)) {
        g->known = false;
        return;
    }
    if (g->known && us >= g->used_us)
        *quota = fmax(isnan(*quota) ? 0 : *quota, share((double)(us - g->used_us), passed_us * processors));
    g->known = true;
    g->used_us = us;
}

/* "some avg10=... avg60=... avg300=... total=N" */
static void read_waiting(waiting *w, double passed_us, double *pressure)
{
    char text[LINE], *total;
    uint64_t us;
    if (!*w->path || read_text(w->path, text, sizeof text) < 0 || strncmp(text, "some ", 5) ||
        !(total = strstr(text, "total=")) || !number(total + 6, &us, NULL)) {
        w->known = false;
        return;
    }
    if (w->known && us >= w->total_us)
        *pressure = fmax(isnan(*pressure) ? 0 : *pressure, share((double)(us - w->total_us), passed_us));
    w->known = true;
    w->total_us = us;
}

int ss_load_read(ss_load *l, int64_t now_ns, ss_load_sample *s, ss_err *e)
{
    int64_t passed = now_ns - l->then_ns;
    *s = l->last;
    if (l->then_ns && passed < SOON_NS)
        return 0;
    *s = (ss_load_sample){NAN, NAN, NAN, NAN};
    bool sound = read_machine(l, &s->machine);
    for (int i = 0; i < l->ngroup; i++)
        read_group(&l->group[i], (double)passed / 1000, &s->quota);
    for (int i = 0; i < 2; i++)
        read_waiting(&l->waiting[i], (double)passed / 1000, &s->pressure);
    s->load = isnan(s->machine) ? s->quota : isnan(s->quota) ? s->machine : fmax(s->machine, s->quota);
    l->last = *s;
    l->then_ns = now_ns;
    if (sound || l->said)
        return 0;
    l->said = true;
    ss_err_set(e, SS_OK, "'%s/proc/stat' tells no load of the processors", l->root);
    return 1;
}

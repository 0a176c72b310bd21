#include "io/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static int read_all(int fd, char **text, size_t *n, const char *path, size_t max, ss_err *e)
{
    struct stat st;
    size_t room = 64 << 10;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size >= 0 && (uint64_t)st.st_size <= max)
        room = (size_t)st.st_size + 1;
    for (;;) {
        char *t = !*text || *n == room ? ss_realloc(*text, (*text ? room = 2 * room : room) + 1, 1) : *text;
        if (!t)
            return ss_err_set(e, SS_ENOMEM, "'%s': no memory for %zu bytes of text", path, room);
        *text = t;
        ssize_t got = read(fd, t + *n, room - *n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ss_err_errno(e, "cannot read '%s'", path);
        *n += (size_t)got;
        t[*n] = 0;
        if (*n > max)
            return ss_err_set(e, SS_ELIMIT, "'%s' is longer than %zu bytes", path, max);
        if (!got)
            return SS_OK;
    }
}

int ss_text_read(char **text, size_t *n, const char *path, size_t max, ss_err *e)
{
    *text = NULL;
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ss_err_errno(e, "cannot open '%s'", path);
    int rc = read_all(fd, text, n, path, max, e);
    close(fd);
    if (rc) {
        ss_free(*text);
        *text = NULL;
    }
    return rc;
}

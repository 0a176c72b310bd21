/*
 * A folder of its own for each test: scratch_enter makes it and goes there (in memory, where there is some,
 * if fsync is to be quick), scratch_leave removes it with all that is in it, and asserts that no memory is
 * held any more.
 */
#ifndef SS_TESTS_SCRATCH_H
#define SS_TESTS_SCRATCH_H

#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

static char scratch[64];

static void scratch_enter(const char *name, bool in_memory)
{
    const char *in = in_memory && !access("/dev/shm", W_OK) ? "/dev/shm" : "/tmp";
    snprintf(scratch, sizeof scratch, "%s/ss-%s-XXXXXX", in, name);
    ck_assert_ptr_nonnull(mkdtemp(scratch));
    ck_assert_int_eq(chdir(scratch), 0);
}

/* A folder in it is removed with its files, if it is there. */
__attribute__((unused)) static void scratch_remove(const char *dir)
{
    char path[400];
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));)
        if (*f->d_name != '.') {
            snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
            unlink(path);
        }
    closedir(d);
    ck_assert_int_eq(rmdir(dir), 0);
}

static void scratch_leave(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(command), 0);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

#endif

/**
 * Rights that a process gives up for good, before it reads what strangers have sent.
 *
 * Three layers, each as far as the kernel has it: PR_SET_NO_NEW_PRIVS; Landlock, by which no file can be
 * opened but beneath one folder, and, where it is new enough, no TCP socket bound or connected and no process
 * outside signalled; and a seccomp filter, by which the process may read, write, wait, take memory and end,
 * and is killed (SIGSYS) at any other system call. Descriptors that are open stay as they are.
 *
 * One thread: what others do is not confined. Builds with AddressSanitizer or ThreadSanitizer, whose own
 * calls are not in the list, go without the filter. Source: landlock(7), seccomp(2); the list is what our
 * relays were seen to need.
 */
#ifndef SS_SYS_SANDBOX_H
#define SS_SYS_SANDBOX_H

#include <stdbool.h>

#include "../base/err.h"

typedef struct ss_sandbox {
    const char *dir;  /* files may be made, changed and removed in it and below; NULL: no file is opened */
    bool descriptors; /* may send and be sent descriptors: sendmsg, recvmsg */
} ss_sandbox;

/** What is in force, or-ed. */
enum {
    SS_SANDBOX_FILES = 1, /* Landlock */
    SS_SANDBOX_CALLS = 2  /* seccomp */
};

/**
 * What is in force from now on; when that is not all, e->text says why, for who wants to tell. SS_EIO: the
 * folder cannot be opened, or new privileges could not be ruled out; then nothing is in force.
 */
int ss_sandbox_enter(const ss_sandbox *s, ss_err *e);

#endif

#include "sys/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH 0 /* no filter */
#endif

/* ---- Landlock ---- */

/* The kernel's own header may be older than the kernel; numbers are the same on all architectures. */
enum {
    CREATE_RULESET = 444,
    ADD_RULE = 445,
    RESTRICT_SELF = 446,
    ASK_VERSION = 1,
    BENEATH = 1,
    EXECUTE = 1,
    IOCTL_DEV = 1 << 15,
};

typedef struct ruleset {
    uint64_t fs, net, scoped;
} ruleset;

typedef struct __attribute__((packed)) path_rule {
    uint64_t allowed;
    int32_t fd;
} path_rule;

/* Everything that this version of Landlock can deny. */
static ruleset all_of(long version, size_t *size)
{
    static const uint64_t fs[] = {
        0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1};
    ruleset r = {.fs = fs[version < 5 ? version : 5],
                 .net = version < 4 ? 0 : 3,     /* TCP: bind, connect */
                 .scoped = version < 6 ? 0 : 3}; /* abstract sockets, signals */
    *size = version < 4 ? 8 : version < 6 ? 16 : 24;
    return r;
}

/* 0, or -1 with errno. */
static int confine_files(int dir)
{
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    if (version < 1)
        return -1;
    size_t size;
    ruleset r = all_of(version, &size);
    int rules = (int)syscall(CREATE_RULESET, &r, size, 0), failed = 0;
    if (rules < 0)
        return -1;
    path_rule own = {r.fs & ~(uint64_t)(EXECUTE | IOCTL_DEV), dir};
    if ((dir >= 0 && syscall(ADD_RULE, rules, BENEATH, &own, 0)) || syscall(RESTRICT_SELF, rules, 0))
        failed = errno;
    close(rules);
    errno = failed;
    return failed ? -1 : 0;
}

/* ---- seccomp ---- */

static const int always[] = {
    SYS_read,   SYS_write,      SYS_readv,           SYS_writev,       SYS_recvfrom,
    SYS_sendto, SYS_ppoll,      SYS_close,           SYS_shutdown,     SYS_brk,
    SYS_munmap, SYS_mremap,     SYS_madvise,         SYS_futex,        SYS_clock_gettime,
    SYS_exit,   SYS_exit_group, SYS_rt_sigprocmask,  SYS_rt_sigreturn, SYS_restart_syscall,
    SYS_getpid, SYS_gettid,     SYS_clock_nanosleep,
#ifdef SYS_poll
    SYS_poll,
#endif
};

static const int with_descriptors[] = {SYS_recvmsg, SYS_sendmsg};

static const int with_files[] = {
    SYS_openat, SYS_mkdirat, SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_fstat, SYS_newfstatat,
#ifdef SYS_mkdir
    SYS_mkdir,  SYS_rename,
#endif
};

enum { MOST = 128 };

typedef struct program {
    struct sock_filter op[MOST];
    unsigned short n;
} program;

static void add(program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    p->op[p->n++] = (struct sock_filter){code, yes, no, k};
}

static void allow(program *p, const int *call, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call[i], 0, 1);
        add(p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    }
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static int confine_calls(const ss_sandbox *s)
{
    program p = {.n = 0};
    const uint32_t die = SECCOMP_RET_KILL_PROCESS;
    if (!ARCH || SANITIZED) {
        errno = ENOSYS;
        return -1;
    }
    add(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    add(&p, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    add(&p, BPF_RET | BPF_K, die, 0, 0);
    add(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    allow(&p, always, COUNT(always));
    if (s->descriptors)
        allow(&p, with_descriptors, COUNT(with_descriptors));
    if (s->dir)
        allow(&p, with_files, COUNT(with_files));
    /* Memory, but none that can be executed. (Numbers of the x32 calls are in no list.) */
    add(&p, BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0);
    add(&p, BPF_RET | BPF_K, die, 0, 0);
    add(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t), 0, 0);
    add(&p, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
    add(&p, BPF_RET | BPF_K, die, 0, 0);
    add(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    struct sock_fprog prog = {p.n, p.op};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

int ss_sandbox_enter(const ss_sandbox *s, ss_err *e)
{
    int dir = -1, got = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return ss_err_errno(e, "cannot rule out new privileges");
    if (s->dir && (dir = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return ss_err_errno(e, "cannot open '%s'", s->dir);
    if (!confine_files(dir))
        got |= SS_SANDBOX_FILES;
    else
        ss_err_errno(e, "files are not confined: Landlock");
    if (dir >= 0)
        close(dir);
    if (!confine_calls(s))
        got |= SS_SANDBOX_CALLS;
    else
        ss_err_errno(e, "%ssystem calls are not confined: seccomp",
                     got & SS_SANDBOX_FILES ? "" : "neither files (Landlock) nor ");
    return got;
}

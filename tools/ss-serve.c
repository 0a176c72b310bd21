/* ss-serve: the streams of many devices into one command, and its answers back to each. Options, the
 * listening sockets, and the monitor; serve.h tells of the rest. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "common.h"
#include "endpoint.h"
#include "serve.h"
#include "sys/sandbox.h"
#include "sys/state.h"

enum {
    LISTENERS = 16,
    RELAYS = 4096,
    STEADY_MS = 60000, /* who has run for so long begins with the first pause again */
    ENDING_MS = 30000  /* for a command whose streams have ended */
};

static const char *opt_model, *opt_labels, *opt_state, *opt_connect;
static uint64_t opt_payload, opt_queue = 8 << 20;
static double opt_rate, opt_drain = 10, opt_retry = 0.5;
static int opt_devices = 64;
static bool opt_public;
static const char *listen_at[LISTENERS];
static int listens;

static int add_listen(const char *value, ss_err *e)
{
    if (listens == LISTENERS)
        return ss_err_set(e, SS_EINVAL, "--listen: more than %d", LISTENERS);
    if (!endpoint_is_address(value))
        return ss_err_set(e, SS_EINVAL, "--listen: found '%s', expected unix:PATH or tcp:HOST:PORT", value);
    listen_at[listens++] = value;
    return SS_OK;
}

static const tool_option options[] = {
    {"listen", 'l', OPT_CALL, NULL, 0, 0, "ADDRESS", "unix:PATH or tcp:HOST:PORT; may be repeated",
     add_listen},
    {"model", 'm', OPT_STRING, &opt_model, 0, 0, "FILE",
     "check what comes against this model; without COMMAND, refine it", NULL},
    {"labels", 0, OPT_STRING, &opt_labels, 0, 0, "FILE", "labels of the merged stream, one a line", NULL},
    {"state", 0, OPT_STRING, &opt_state, 0, 0, "DIR", "state directory, a folder in it for each device",
     NULL},
    {"max-devices", 0, OPT_INT, &opt_devices, 1, RELAYS, "N", "connections at one time", NULL},
    {"max-payload", 0, OPT_SIZE, &opt_payload, 0, 0, "SIZE",
     "of one record; 0: the largest of the model, or 4 MiB", NULL},
    {"max-queue", 0, OPT_SIZE, &opt_queue, 0, 0, "SIZE", "answers that wait for one device", NULL},
    {"max-rate", 0, OPT_REAL, &opt_rate, 0, 1e6, "N", "records a second of one device; 0: any", NULL},
    {"drain", 0, OPT_REAL, &opt_drain, 0, 1e6, "SECONDS", "at the end, wait so long for the last answers",
     NULL},
    {"retry", 0, OPT_REAL, &opt_retry, 0.01, 3600, "SECONDS",
     "first pause before the command is started anew; it doubles", NULL},
    {"public", 0, OPT_FLAG, &opt_public, 0, 0, NULL, "tcp: may be reached from other machines", NULL},
    {"connect", 0, OPT_STRING, &opt_connect, 0, 0, "ADDRESS",
     "join standard input and output to the server there, and nothing else", NULL},
    {0},
};

static const tool_program program = {
    .name = "ss-serve",
    .operands = "[--] [COMMAND [ARGUMENT...]]",
    .purpose = "Take in the streams of many devices as one, and give each the answers that are its own.",
    .options = options,
};

typedef struct listener {
    int fd;
    const char *path; /* of a socket file, or NULL */
    dev_t dev;
    ino_t ino;
} listener;

static struct monitor {
    serve_settings set;
    char *const *command;
    listener listener[LISTENERS];
    int listeners;
    pid_t pid; /* ours, as children know it */
    /* multiplexer */
    pid_t mux;
    int mux_fd;
    int64_t mux_next_ms;
    int mux_status;
    /* command */
    endpoint ep;
    int64_t began_ms, next_ms, kill_ms;
    double pause; /* s */
    bool handed, ever;
    /* relays */
    struct {
        pid_t pid;
        int id;
        bool killed;
    } relay[RELAYS];
    int relays, last_id;
    bool full_said, stopping;
    int64_t stop_ms;
} s = {.mux_fd = -1, .ep = {.in = -1, .out = -1}};

static int64_t now_ms(void)
{
    return ss_clock_mono_ns() / 1000000;
}

/* ---- between processes ---- */

int serve_send(int fd, serve_message m, const int *pass, int n)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {&m, sizeof m};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(&control.head), pass, (size_t)n * sizeof(int));
    }
    for (int i = 0; i < 10; i++) {
        if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return SS_OK;
        struct pollfd p = {fd, POLLOUT, 0};
        if (errno == EAGAIN)
            poll(&p, 1, 100);
        else if (errno != EINTR)
            break;
    }
    return SS_EIO;
}

int serve_receive(int fd, serve_message *m, int pass[2], bool *gone)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {m, sizeof *m};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    pass[0] = pass[1] = -1;
    ssize_t k = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *gone = k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR);
    if (k != (ssize_t)sizeof *m)
        return 0;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len <= CMSG_LEN(2 * sizeof(int)))
        memcpy(pass, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return 1;
}

void serve_become(const char *name, int *fd, int n)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), high[4];
    for (int i = 0; i < n; i++)
        high[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, 64);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        _exit(TOOL_IO);
    for (int i = 0; i < n; i++)
        if ((fd[i] = dup3(high[i], 3 + i, O_CLOEXEC)) < 0)
            _exit(TOOL_IO);
    if (close_range((unsigned)(3 + n), ~0U, 0))
        for (int i = 3 + n; i < 65536; i++)
            close(i);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, name);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != s.pid)
        _exit(TOOL_IO);
}

void serve_confine(const char *dir, bool descriptors)
{
    ss_err e = {0};
    ss_sandbox box = {dir, descriptors};
    int got = ss_sandbox_enter(&box, &e);
    if (got < 0) {
        tool_error("%s", e.text);
        _exit(TOOL_IO);
    }
    if (e.text[0])
        tool_info("%s", e.text);
}

/* ---- listening ---- */

/* Does somebody listen there? A process that a killed one of ours had just forked may, for some moments. */
static int try_connect(const struct sockaddr_un *at)
{
    int rc = 0;
    for (int i = 0; i < 40; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        rc = fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at) ? errno : 0;
        if (fd >= 0)
            close(fd);
        if (rc && rc != EAGAIN)
            break;
        ss_clock_sleep_until(ss_clock_mono_ns() + 50000000);
    }
    return rc;
}

/* A socket file that somebody listens on stays; one that nobody does is replaced. */
static int may_replace(const char *path, const struct sockaddr_un *at, ss_err *e)
{
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT ? SS_OK : ss_err_errno(e, "cannot look at '%s'", path);
    if (!S_ISSOCK(st.st_mode))
        return ss_err_set(e, SS_EIO, "'%s' exists and is no socket", path);
    int why = try_connect(at);
    if (why == ECONNREFUSED || why == ENOENT)
        return SS_OK;
    if (!why || why == EAGAIN)
        return ss_err_set(e, SS_EIO, "somebody listens on '%s' already", path);
    errno = why;
    return ss_err_errno(e, "cannot use '%s'", path);
}

/* Under another name until nobody but the owner can reach it. */
static int listen_unix(listener *l, const char *path, ss_err *e)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX}, other = at;
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) + 1 : 0;
    if (!*path || strlen(path) >= sizeof at.sun_path)
        return ss_err_set(e, SS_EINVAL, "the name of the socket '%s' is too long, or empty", path);
    strcpy(at.sun_path, path);
    int n = snprintf(other.sun_path, sizeof other.sun_path, "%.*s.ss%ld", dir, path, (long)getpid());
    if (n >= (int)sizeof other.sun_path)
        return ss_err_set(e, SS_EINVAL, "the name of the folder of the socket '%s' is too long", path);
    int rc = may_replace(path, &at, e);
    if (rc)
        return rc;
    struct stat st;
    mode_t mask = umask(0177);
    unlink(other.sun_path);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = l->fd >= 0 && !bind(l->fd, (struct sockaddr *)&other, sizeof other) &&
              !chmod(other.sun_path, 0600) && !listen(l->fd, 64) && !lstat(other.sun_path, &st) &&
              !rename(other.sun_path, path);
    umask(mask);
    if (!ok) {
        rc = ss_err_errno(e, "cannot listen on '%s'", path);
        unlink(other.sun_path);
        return rc;
    }
    l->path = path;
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    return SS_OK;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static void told_port(int fd, const char *where)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char host[64], port[16];
    if (!getsockname(fd, (struct sockaddr *)&at, &n) &&
        !getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port,
                     NI_NUMERICHOST | NI_NUMERICSERV))
        tool_info("tcp:%s: listening on %s port %s", where, host, port);
}

static int listen_tcp(listener *l, const char *where, ss_err *e)
{
    char host[256];
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    if (!n || n >= sizeof host || !colon[1])
        return ss_err_set(e, SS_EINVAL, "--listen: found 'tcp:%s', expected tcp:HOST:PORT", where);
    memcpy(host, where, n);
    host[n] = 0;
    if (*host == '[' && host[n - 1] == ']') {
        memmove(host, host + 1, n - 2);
        host[n - 2] = 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *a;
    int bad = getaddrinfo(host, colon + 1, &hints, &a), rc = SS_OK, yes = 1;
    if (bad)
        return ss_err_set(e, SS_EIO, "cannot look up '%s': %s", where, gai_strerror(bad));
    if (!is_loopback(a->ai_addr) && !opt_public) {
        rc = ss_err_set(e, SS_EINVAL,
                        "tcp:%s can be reached from other machines, and nothing there is encrypted or "
                        "authenticated: let devices come in through ssh, or use --public",
                        where);
    } else {
        l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) ||
            bind(l->fd, a->ai_addr, a->ai_addrlen) || listen(l->fd, 64))
            rc = ss_err_errno(e, "cannot listen on 'tcp:%s'", where);
        else
            told_port(l->fd, where);
    }
    if (!rc && !is_loopback(a->ai_addr))
        tool_warn(
            "tcp:%s: the streams are neither encrypted nor authenticated, and anybody who reaches the port "
            "can be any device",
            where);
    freeaddrinfo(a);
    return rc;
}

static int listen_all(ss_err *e)
{
    for (int i = 0; i < listens; i++) {
        listener *l = &s.listener[s.listeners];
        bool unix_socket = listen_at[i][0] == 'u';
        l->fd = -1;
        int rc = unix_socket ? listen_unix(l, listen_at[i] + 5, e) : listen_tcp(l, listen_at[i] + 4, e);
        if (rc) {
            if (l->fd >= 0)
                close(l->fd);
            return rc;
        }
        s.listeners++;
    }
    return SS_OK;
}

static void listen_no_more(void)
{
    struct stat st;
    while (s.listeners) {
        listener *l = &s.listener[--s.listeners];
        close(l->fd);
        if (l->path && !lstat(l->path, &st) && st.st_dev == l->dev && st.st_ino == l->ino)
            unlink(l->path);
    }
}

/* ---- children ---- */

static void start_mux(void)
{
    int pair[2];
    int64_t now = now_ms();
    if (s.mux || now < s.mux_next_ms || s.stopping)
        return;
    s.mux_next_ms = now + (int64_t)(opt_retry * 1e3);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) {
        tool_warn("cannot start the multiplexer: %s", strerror(errno));
        return;
    }
    fflush(stderr);
    pid_t pid = fork();
    if (!pid)
        serve_mux(&s.set, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        tool_warn("cannot start the multiplexer: %s", strerror(errno));
        close(pair[0]);
        return;
    }
    s.mux = pid;
    s.mux_fd = pair[0];
}

/* The command is started, or the descriptors of one that runs go to the multiplexer. */
static int start_command(ss_err *e)
{
    int64_t now = now_ms();
    if (s.ep.pid || s.stopping || !s.mux || now < s.next_ms)
        return SS_OK;
    int rc = endpoint_open(&s.ep, s.command, e);
    s.began_ms = now;
    s.kill_ms = INT64_MAX;
    if (rc)
        return rc;
    fcntl(s.ep.out, F_SETPIPE_SZ, 256 << 10); /* fewer turns; where the system allows */
    int pass[2] = {s.ep.out, s.ep.in};
    if (serve_send(s.mux_fd, (serve_message){SERVE_COMMAND, 0}, pass, 2))
        s.kill_ms = now + ENDING_MS;
    endpoint_close(&s.ep);
    s.ever = true;
    return SS_OK;
}

static void again_later(const char *why)
{
    if (now_ms() - s.began_ms >= STEADY_MS)
        s.pause = opt_retry;
    s.next_ms = now_ms() + (int64_t)(s.pause * 1e3);
    tool_warn("%s: starting it again in %g s", why, s.pause);
    s.pause = fmin(2 * s.pause, 60 * opt_retry);
}

static void tell_end(char *to, size_t n, const char *who, int status)
{
    if (WIFSIGNALED(status))
        snprintf(to, n, "%s died of signal %d", who, WTERMSIG(status));
    else
        snprintf(to, n, "%s ended with status %d", who, WEXITSTATUS(status));
}

static void relay_ended(pid_t pid, int status)
{
    for (int i = 0; i < s.relays; i++) {
        if (s.relay[i].pid != pid)
            continue;
        if (WIFSIGNALED(status) && !(s.relay[i].killed && WTERMSIG(status) == SIGKILL))
            tool_warn("connection %d: its relay died of signal %d", s.relay[i].id, WTERMSIG(status));
        s.relay[i] = s.relay[--s.relays];
        return;
    }
}

static void reap(void)
{
    int status;
    pid_t pid;
    char text[96];
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s.ep.pid) {
            s.ep.pid = 0;
            tell_end(text, sizeof text, "the command", status);
            if (!s.stopping)
                again_later(text);
            else if (status)
                tool_warn("%s", text);
        } else if (pid == s.mux) {
            s.mux = 0;
            close(s.mux_fd);
            s.mux_fd = -1;
            s.mux_status = WIFEXITED(status) ? WEXITSTATUS(status) : TOOL_IO;
            s.kill_ms = now_ms() + ENDING_MS;
            tell_end(text, sizeof text, "the multiplexer", status);
            if (!s.stopping)
                tool_warn("%s: starting it again", text);
        } else {
            relay_ended(pid, status);
        }
    }
}

static void take_connection(int fd)
{
    int pair[2], yes = 1, id = s.last_id = s.last_id < INT32_MAX ? s.last_id + 1 : 1;
    if (s.relays >= opt_devices) {
        if (!s.full_said)
            tool_warn("more than %d connections: turned away", opt_devices);
        s.full_said = true;
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* where it is TCP */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) {
        tool_warn("connection %d: %s", id, strerror(errno));
        close(fd);
        return;
    }
    fflush(stderr);
    pid_t pid = fork();
    if (!pid)
        serve_relay(&s.set, id, fd, pair[1]);
    if (pid < 0)
        tool_warn("connection %d: %s", id, strerror(errno));
    else
        serve_send(s.mux_fd, (serve_message){SERVE_RELAY, id}, pair, 1);
    close(pair[0]);
    close(pair[1]);
    close(fd);
    if (pid < 0)
        return;
    s.relay[s.relays].pid = pid;
    s.relay[s.relays].id = id;
    s.relay[s.relays++].killed = false;
    tool_info("connection %d begins", id);
}

static void hear_mux(void)
{
    serve_message msg;
    int fd[2];
    bool gone;
    while (s.mux_fd >= 0 && serve_receive(s.mux_fd, &msg, fd, &gone)) {
        if (msg.what == SERVE_ENDED && s.ep.pid)
            s.kill_ms = now_ms() + ENDING_MS;
        if (msg.what == SERVE_KILL) /* it may be asked for because the relay has died */
            reap();
        for (int i = 0; i < s.relays && msg.what == SERVE_KILL; i++)
            if (s.relay[i].id == msg.id) {
                s.relay[i].killed = true;
                kill(s.relay[i].pid, SIGKILL);
            }
    }
}

/* ---- the monitor ---- */

static void begin_stop(void)
{
    s.stopping = true;
    listen_no_more();
    s.stop_ms = now_ms() + s.set.drain_ms + 2000;
    if (s.mux)
        serve_send(s.mux_fd, (serve_message){SERVE_STOP, 0}, NULL, 0);
}

/* What has had its time. */
static void end_late_ones(int64_t now)
{
    if (s.ep.pid && now >= s.kill_ms) {
        tool_warn("the command does not end: killed");
        kill(s.ep.pid, SIGKILL);
        s.kill_ms = now + ENDING_MS;
    }
    if (s.stopping && s.mux && now >= s.stop_ms)
        kill(s.mux, SIGKILL);
    for (int i = 0; i < s.relays && s.stopping && !s.mux; i++) {
        s.relay[i].killed = true;
        kill(s.relay[i].pid, SIGKILL);
    }
}

static int turn(const sigset_t *open_mask, ss_err *e)
{
    struct pollfd p[LISTENERS + 1];
    reap();
    start_mux();
    int rc = start_command(e);
    if (rc && !s.ever)
        return rc;
    if (rc)
        again_later(e->text);
    nfds_t n = 0;
    p[n++] = (struct pollfd){s.mux_fd, POLLIN, 0};
    for (int i = 0; i < s.listeners && s.mux; i++)
        p[n++] = (struct pollfd){s.listener[i].fd, POLLIN, 0};
    struct timespec ts = {0, s.ep.pid && s.mux && !s.stopping ? 500000000 : 20000000};
    if (tool_stop && !s.stopping)
        begin_stop();
    if (ppoll(p, n, &ts, open_mask) < 0)
        n = 0;
    if (n && p[0].revents & POLLIN)
        hear_mux();
    for (nfds_t i = 1; i < n && !s.stopping; i++)
        for (int k = 0; k < 16 && p[i].revents; k++) {
            int fd = accept4(p[i].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0)
                break;
            take_connection(fd);
        }
    end_late_ones(now_ms());
    return s.stopping && !s.mux && !s.ep.pid && !s.relays;
}

static void on_child(int number)
{
    (void)number;
}

static int serve(ss_err *e)
{
    sigset_t mine, open_mask;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = on_child}, NULL);
    sigemptyset(&mine);
    sigaddset(&mine, SIGINT);
    sigaddset(&mine, SIGTERM);
    sigaddset(&mine, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mine, &open_mask);
    s.pid = getpid();
    s.pause = opt_retry;
    int rc = listen_all(e);
    while (!rc)
        rc = turn(&open_mask, e);
    listen_no_more();
    if (rc < 0 && s.mux)
        kill(s.mux, SIGKILL);
    if (rc > 0 && s.mux_status)
        rc = ss_err_set(e, SS_EIO, "not all was drained");
    return rc < 0 ? rc : SS_OK;
}

/* ---- settings ---- */

static int read_model(ss_err *e)
{
    ss_model *m;
    ss_err why;
    int previous, rc = ss_model_open_any(&m, opt_model, &previous, &why);
    if (rc < 0) {
        *e = why;
        return rc;
    }
    s.set.checked = true;
    s.set.config = m->config;
    strcpy(s.set.header.frontend_hash, m->frontend_hash);
    ss_model_arch_hash(&m->config, s.set.header.arch_hash);
    s.set.max_payload = ss_model_largest_cut(&m->config) * sizeof(float);
    /* Relays have no right to open files. */
    static runner_codecs codecs;
    for (int c = SS_CUT_INPUT; c <= SS_CUT_EMBEDDING && !rc; c++)
        if (m->codec[c])
            rc = runner_codecs_open(&codecs, m, c, e);
    s.set.codecs = &codecs;
    ss_model_free(m);
    return rc;
}

static int read_labels(ss_err *e)
{
    char line[512];
    FILE *f = fopen(opt_labels, "re");
    int rc = f ? SS_OK : ss_err_errno(e, "cannot open '%s'", opt_labels);
    while (!rc && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        int i = ss_header_add_label(&s.set.header, line, e);
        if (i < 0)
            rc = ss_err_prefix(e, "'%s'", opt_labels);
    }
    if (!rc && ferror(f))
        rc = ss_err_errno(e, "cannot read '%s'", opt_labels);
    if (f)
        fclose(f);
    return rc;
}

/* Durable, without another option. */
static char *const *own_command(void)
{
    static char checkpoint[4200], journal[4200];
    static char *argv[] = {"ss-train", "--refine", "-m", NULL, checkpoint, journal, NULL};
    argv[3] = (char *)opt_model;
    snprintf(checkpoint, sizeof checkpoint, "--checkpoint=%s.checkpoint", opt_model);
    snprintf(journal, sizeof journal, "--journal=%s.journal", opt_model);
    return argv;
}

static int prepare(ss_err *e)
{
    ss_state *state;
    s.set.max_payload = 4 << 20;
    s.set.max_queue = opt_queue;
    s.set.max_rate = opt_rate;
    s.set.drain_ms = (int)(opt_drain * 1e3 < 1e9 ? opt_drain * 1e3 : 1e9);
    s.set.keepalive_ms = 5000;
    s.set.state = opt_state;
    strcpy(s.set.header.kind, "cut");
    int rc = opt_model ? read_model(e) : SS_OK;
    if (opt_payload)
        s.set.max_payload = opt_payload;
    if (!rc && opt_labels)
        rc = read_labels(e);
    if (!rc && opt_state && !(rc = ss_state_open(&state, opt_state, e)))
        ss_state_close(&state);
    return rc;
}

/* ---- standard input and output to a server ---- */

/* Bytes from one to the other: false when it is over. */
static bool pump(int from, int to, ss_err *e)
{
    char buf[65536];
    ssize_t n = read(from, buf, sizeof buf);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        ss_err_errno(e, "cannot read");
    for (ssize_t at = 0; at < n;) {
        ssize_t k = write(to, buf + at, (size_t)(n - at));
        if (k < 0 && errno == EAGAIN) {
            struct pollfd p = {to, POLLOUT, 0};
            poll(&p, 1, -1);
        } else if (k < 0 && errno != EINTR) {
            ss_err_errno(e, "cannot write");
            return false;
        }
        at += k > 0 ? k : 0;
    }
    return n > 0;
}

/* A process for each direction: neither waits for the other. The one that brings answers has the say; when it
 * is over, nobody is there to be sent anything. */
static int join(ss_err *e)
{
    endpoint ep;
    char *argv[] = {(char *)opt_connect, NULL};
    int rc = endpoint_open(&ep, argv, e);
    struct pollfd p = {rc ? -1 : ep.out, POLLOUT, 0};
    if (!rc && ep.connecting) {
        poll(&p, 1, -1);
        rc = endpoint_connected(&ep, e);
    }
    if (rc)
        return rc;
    signal(SIGPIPE, SIG_IGN);
    fcntl(ep.in, F_SETFL, 0);
    pid_t pid = fork();
    if (pid < 0)
        return ss_err_errno(e, "cannot fork");
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (pump(0, ep.out, e))
            ;
        shutdown(ep.out, SHUT_WR);
        _exit(0);
    }
    close(0);
    e->code = SS_OK;
    while (!tool_stop && pump(ep.in, 1, e))
        ;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return e->code;
}

int main(int argc, char **argv)
{
    ss_err e = {0};
    int first = tool_start(&program, argc, argv);
    bool given = first < argc;
    if (opt_connect && (listens || given))
        tool_usage("--connect: a server is joined, or made, not both");
    if (opt_connect && !endpoint_is_address(opt_connect))
        tool_usage("--connect: found '%s', expected unix:PATH or tcp:HOST:PORT", opt_connect);
    if (!opt_connect && !listens)
        tool_usage("no address: name one with --listen");
    if (!opt_connect && !given && !opt_model)
        tool_usage("no command, and no model to be refined");
    if (given && !argv[first + 1] && endpoint_is_address(argv[first]))
        tool_usage("found '%s', expected a command", argv[first]);
    if (opt_connect)
        return tool_finish(join(&e), &e);
    ss_crc32c(0, "", 0); /* what it finds out of the processor, before files are out of reach */
    s.command = given ? argv + first : own_command();
    int rc = prepare(&e);
    if (!rc)
        rc = serve(&e);
    ss_header_clear(&s.set.header);
    return tool_finish(rc, &e);
}

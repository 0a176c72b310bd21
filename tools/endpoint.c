#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

bool endpoint_is_address(const char *text)
{
    return !strncmp(text, "unix:", 5) || !strncmp(text, "tcp:", 4);
}

static int start_connecting(endpoint *p, int fd, const struct sockaddr *to, socklen_t n)
{
    if (connect(fd, to, n)) {
        /* A UNIX socket whose queue is full says EAGAIN: no better than refused. */
        if (errno != EINPROGRESS)
            return -1;
        p->connecting = true;
    }
    p->in = p->out = fd;
    return 0;
}

static int dial_unix(endpoint *p, const char *path, ss_err *e)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path)
        return ss_err_set(e, SS_EINVAL, "the name of the socket '%s' is too long", path);
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || start_connecting(p, fd, (struct sockaddr *)&to, sizeof to)) {
        int rc = ss_err_errno(e, "cannot connect to '%s'", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    return SS_OK;
}

static int dial_tcp(endpoint *p, const char *where, ss_err *e)
{
    char host[256];
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    if (!n || n >= sizeof host || !colon[1])
        return ss_err_set(e, SS_EINVAL, "address: found 'tcp:%s', expected tcp:HOST:PORT", where);
    memcpy(host, where, n);
    host[n] = 0;
    if (*host == '[' && host[n - 1] == ']') { /* [::1]:PORT */
        memmove(host, host + 1, n - 2);
        host[n - 2] = 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list;
    int bad = getaddrinfo(host, colon + 1, &hints, &list);
    if (bad)
        return ss_err_set(e, SS_EIO, "cannot look up '%s': %s", where, gai_strerror(bad));
    int rc = SS_EIO;
    for (struct addrinfo *a = list; a && rc; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
        if (fd >= 0)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (fd >= 0 && !start_connecting(p, fd, a->ai_addr, a->ai_addrlen)) {
            rc = SS_OK;
            break;
        }
        rc = ss_err_errno(e, "cannot connect to '%s'", where);
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return rc;
}

static void run(char *const argv[], int in, int out, int report)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0)
        execvp(argv[0], argv);
    int failed = errno;
    (void)!write(report, &failed, sizeof failed);
    _exit(127);
}

static void close_all(int *fd, int n)
{
    for (int i = 0; i < n; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

static int spawn(endpoint *p, char *const argv[], ss_err *e)
{
    enum { TO, FROM = 2, REPORT = 4 }; /* read end, write end */
    int fd[6] = {-1, -1, -1, -1, -1, -1}, failed = 0;
    if (pipe2(fd + TO, O_CLOEXEC) || pipe2(fd + FROM, O_CLOEXEC) || pipe2(fd + REPORT, O_CLOEXEC) ||
        fcntl(fd[TO + 1], F_SETFL, O_NONBLOCK) || fcntl(fd[FROM], F_SETFL, O_NONBLOCK) ||
        (p->pid = fork()) < 0) {
        int rc = ss_err_errno(e, "cannot run '%s'", argv[0]);
        p->pid = 0;
        close_all(fd, 6);
        return rc;
    }
    if (!p->pid)
        run(argv, fd[TO], fd[FROM + 1], fd[REPORT + 1]);
    close(fd[REPORT + 1]);
    close(fd[TO]);
    close(fd[FROM + 1]);
    fd[REPORT + 1] = fd[TO] = fd[FROM + 1] = -1;
    ssize_t n;
    while ((n = read(fd[REPORT], &failed, sizeof failed)) < 0 &&
           errno == EINTR) /* it ends when the command begins */
        ;
    if (n > 0) {
        errno = failed;
        ss_err_errno(e, "cannot run '%s'", argv[0]);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        p->pid = 0;
        close_all(fd, 6);
        return SS_ENOTSUP;
    }
    close(fd[REPORT]);
    p->out = fd[TO + 1];
    p->in = fd[FROM];
    return SS_OK;
}

int endpoint_open(endpoint *p, char *const argv[], ss_err *e)
{
    *p = (endpoint){.in = -1, .out = -1};
    if (argv[1] || !endpoint_is_address(argv[0]))
        return spawn(p, argv, e);
    return argv[0][0] == 'u' ? dial_unix(p, argv[0] + 5, e) : dial_tcp(p, argv[0] + 4, e);
}

int endpoint_connected(endpoint *p, ss_err *e)
{
    int bad = 0;
    socklen_t n = sizeof bad;
    if (getsockopt(p->out, SOL_SOCKET, SO_ERROR, &bad, &n))
        bad = errno;
    p->connecting = false;
    errno = bad;
    return bad ? ss_err_errno(e, "cannot connect") : SS_OK;
}

void endpoint_finish(endpoint *p)
{
    if (p->out < 0)
        return;
    if (p->in == p->out)
        shutdown(p->out, SHUT_WR);
    else
        close(p->out);
    p->out = -1;
}

void endpoint_close(endpoint *p)
{
    if (p->out >= 0 && p->out != p->in)
        close(p->out);
    if (p->in >= 0)
        close(p->in);
    p->in = p->out = -1;
}

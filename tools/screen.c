#include "screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common.h"

static struct {
    bool on, keys, colours;
    int columns, rows, at; /* at: lines drawn */
    struct termios before;
} s;
static volatile sig_atomic_t suspended;

static void on_resize(int number)
{
    (void)number; /* it ends the wait */
}

static void on_suspend(int number)
{
    (void)number;
    suspended = 1;
}

static void enter(void)
{
    if (s.keys) {
        struct termios raw = s.before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(0, TCSANOW, &raw);
    }
    fputs("\033[?1049h\033[?25l\033[?7l", stdout); /* alternative screen, no cursor, no wrapping */
    fflush(stdout);
}

static void leave(void)
{
    fputs("\033[0m\033[?7h\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (s.keys)
        tcsetattr(0, TCSANOW, &s.before);
}

bool screen_open(void)
{
    if (!isatty(1))
        return false;
    const char *no = getenv("NO_COLOR");
    s.on = true;
    s.colours = !no || !*no;
    s.keys = isatty(0) && tcgetpgrp(0) == getpgrp() && !tcgetattr(0, &s.before);
    struct sigaction act = {.sa_handler = on_resize};
    sigemptyset(&act.sa_mask);
    sigaction(SIGWINCH, &act, NULL);
    act.sa_handler = on_suspend;
    sigaction(SIGTSTP, &act, NULL);
    enter();
    return true;
}

void screen_close(void)
{
    if (s.on)
        leave();
    s.on = false;
}

void screen_size(int *columns, int *rows)
{
    struct winsize w;
    bool known = !ioctl(1, TIOCGWINSZ, &w) && w.ws_col && w.ws_row;
    *columns = known ? w.ws_col : 80;
    *rows = known ? w.ws_row : 24;
}

void screen_begin(void)
{
    screen_size(&s.columns, &s.rows);
    s.at = 0;
    fputs("\033[H", stdout);
}

void screen_line(enum screen_style style, const char *text)
{
    static const char *const start[] = {"", "\033[7m", "\033[1;31m", "\033[2m"};
    if (s.at >= s.rows)
        return;
    if (s.at++)
        fputs("\r\n", stdout);
    bool coloured = s.colours && style != SCREEN_PLAIN;
    printf("%s%.*s%s\033[K", coloured ? start[style] : "", s.columns, text, coloured ? "\033[0m" : "");
}

void screen_end(void)
{
    fputs("\033[J", stdout);
    fflush(stdout);
}

int screen_wait(int ms)
{
    struct pollfd p = {0, POLLIN, 0};
    unsigned char key = 0;
    if (!tool_stop && poll(&p, s.keys, ms) > 0 && read(0, &key, 1) <= 0)
        s.keys = false; /* the terminal has gone */
    if (suspended) {
        suspended = 0;
        leave();
        raise(SIGSTOP);
        enter();
    }
    return key;
}

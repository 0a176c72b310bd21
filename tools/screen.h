/* A live view on the terminal of standard output, with plain ANSI sequences: an alternative screen that is
 * drawn anew as a whole, and goes away again. Lines are ASCII. */
#ifndef SS_TOOLS_SCREEN_H
#define SS_TOOLS_SCREEN_H

#include <stdbool.h>

enum screen_style { SCREEN_PLAIN, SCREEN_HEAD, SCREEN_BAD, SCREEN_DIM };

/* False when standard output is no terminal: then there is nothing to close. Keys come from standard input if
 * it is one too. Colours unless NO_COLOR is set. */
bool screen_open(void);
void screen_close(void);
void screen_size(int *columns, int *rows);

/* One picture: begin, its lines from the top, cut at the width and the last row, end. */
void screen_begin(void);
void screen_line(enum screen_style style, const char *text);
void screen_end(void);

/* Wait for a key, a signal, a new size or the time: the key, 0 without one. */
int screen_wait(int ms);

#endif

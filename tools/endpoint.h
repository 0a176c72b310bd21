/* The other end of a connection: a command's standard input and output, or a socket. Descriptors do not
 * block. */
#ifndef SS_TOOLS_ENDPOINT_H
#define SS_TOOLS_ENDPOINT_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

typedef struct endpoint {
    int in, out;     /* the same one for a socket; -1 = none */
    pid_t pid;       /* of the command, 0 = none */
    bool connecting; /* endpoint_connected is to be asked when poll says that `out` is writable */
} endpoint;

/* "unix:PATH" or "tcp:HOST:PORT". */
bool endpoint_is_address(const char *text);

/* Run argv, or dial the address when it is the only word. A host name is looked up before anything else goes
 * on; a number is not. The command ignores SIGINT: a terminal's goes to who drains first. SS_ENOTSUP: there
 * is no such command, or it may not be run; SS_EINVAL: this is no address; SS_EIO. */
int endpoint_open(endpoint *p, char *const argv[], ss_err *e);
/* After connecting: 0 or the failure. */
int endpoint_connected(endpoint *p, ss_err *e);
/* Nothing more will be written: the other side sees the end. */
void endpoint_finish(endpoint *p);
/* Close the descriptors. The command, if it runs, is the caller's to wait for: *p keeps its pid. */
void endpoint_close(endpoint *p);

#endif

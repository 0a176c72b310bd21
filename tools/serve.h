/*
 * The three kinds of processes of ss-serve.
 *
 *   monitor      ss-serve itself: listens, accepts, starts the command and the others, and ends them. It
 * reads no remote byte. Forks a relay for each connection, so that none has the memory of another. relay one
 * for each connection: reads and checks what the device sends, with no right but to read and write, and hands
 * on frames; passes answers, which are encoded already, to the device. multiplexer  makes one stream of all
 * frames for the command, and finds the connections for its answers.
 *
 * Monitor and multiplexer talk in messages, relays and multiplexer in frames, all over socket pairs. A frame
 * has a fixed form and whatever is in it is checked again by the writer of the command's stream: a relay that
 * was taken over can say no more than its device could.
 */
#ifndef SS_TOOLS_SERVE_H
#define SS_TOOLS_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/stream.h"
#include "nn/model.h"
#include "runner.h"

typedef struct serve_settings {
    const char *state; /* folder, or NULL */
    bool checked;      /* by the model's configuration */
    ss_model_config config;
    runner_codecs *codecs; /* opened, of every cut that has any */
    ss_header header;      /* of the command's stream: labels, and with a model its hashes */
    size_t max_payload, max_queue;
    double max_rate;
    int drain_ms, keepalive_ms;
} serve_settings;

/* A message and perhaps descriptors. */
typedef struct serve_message {
    enum serve_what {
        SERVE_COMMAND = 1, /* to the multiplexer: the command runs; descriptors: its input, its output */
        SERVE_RELAY,       /* to the multiplexer: connection `id`; descriptor: its relay */
        SERVE_STOP,        /* to the multiplexer: drain, and end */
        SERVE_ENDED,       /* to the monitor: the command has ended its output, or is of no use any more */
        SERVE_KILL         /* to the monitor: end the relay of connection `id` */
    } what;
    int id;
} serve_message;

/* Over a SOCK_SEQPACKET: 1; 0 when there is none, or the other side has gone (*gone). */
int serve_send(int fd, serve_message m, const int *pass, int n);
int serve_receive(int fd, serve_message *m, int pass[2], bool *gone);

typedef struct serve_frame {
    enum serve_frame_what {
        FRAME_HEADER = 1, /* the connection's header */
        FRAME_RECORD,     /* a record; its payload follows */
        FRAME_END         /* the device has ended its stream */
    } what;
    int64_t begun; /* monotonic, ns: when the record came */
    union {
        ss_record rec; /* its data mean nothing */
        struct {
            char kind[32], frontend_hash[17], arch_hash[17];
            double rate;
        } header;
    } u;
} serve_frame;

/* The relay of a connection, from its first byte to its end. `to` is its end of the pair. Never returns. */
void serve_relay(const serve_settings *s, int id, int connection, int to) __attribute__((noreturn));
/* The multiplexer. */
void serve_mux(const serve_settings *s, int monitor) __attribute__((noreturn));

/* Only these descriptors, moved to 3 and on, in the order given; 0 and 1 are of no use; signals that are for
 * the monitor do not matter; it dies with its parent. */
void serve_become(const char *name, int *fd, int n);
/* Files in `dir` alone, or none; says with -v what the kernel does not have. */
void serve_confine(const char *dir, bool descriptors);

#endif

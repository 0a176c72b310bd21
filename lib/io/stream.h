/**
 * ss-stream(5): the one format that flows between the programs, reader and writer.
 *
 * A stream is a preamble (magic, version, JSON header), records, and an end record. The reader checks every
 * checksum, cap and product before it allocates or delivers; a stream without its end record is truncated,
 * and everything before the cut has been delivered. Byte layout: man/ss-stream.5, which is the specification.
 *
 * Ownership: what ss_reader_next gives belongs to the reader and lasts until the next call. What is put is
 * copied or written before the call returns. A reader or writer belongs to one thread.
 * Errors: SS_EIO, SS_EDAMAGED, SS_ETRUNC, SS_EUNFIT (version too new, unknown required record), SS_ELIMIT,
 * SS_ENOMEM, SS_EINVAL (a record that breaks the caps is put); the text names record and byte.
 */
#ifndef SS_IO_STREAM_H
#define SS_IO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

#define SS_STREAM_MAJOR 1
#define SS_STREAM_MINOR 0
#define SS_MAX_RANK     8

/** Largest JSON header (of the format), largest payload (of what a writer puts and a reader takes by
 * default). */
#define SS_STREAM_MAX_HEADER  (1 << 20)
#define SS_STREAM_MAX_PAYLOAD (64 << 20)

typedef enum ss_dtype {
    SS_DTYPE_F32 = 1,
    SS_DTYPE_F16 = 2,
    SS_DTYPE_BF16 = 3,
    SS_DTYPE_I8 = 4,
    SS_DTYPE_U8 = 5,
    SS_DTYPE_I16 = 6,
    SS_DTYPE_I32 = 7,
    SS_DTYPE_I64 = 8,
    SS_DTYPE_F64 = 9,
    SS_DTYPE_PACKED = 10 /* bytes of a codec; dims still say the shape that it unpacks to */
} ss_dtype;

/** Bytes of one element, 0 for packed and unknown ones; name as in "f32", or NULL; dtype of a name, or 0. */
size_t ss_dtype_size(int dtype);
const char *ss_dtype_name(int dtype);
int ss_dtype_parse(const char *name);

/** Record types. 128 and above: unknown ones are skippable and passed on; below: refused when unknown. */
typedef enum ss_type {
    SS_TYPE_DATA = 1,     /* a window, a block of sound, a cut, an embedding: the header's kind says which */
    SS_TYPE_GAP = 2,      /* seq .. attribute count: records that are missing, and why */
    SS_TYPE_RESULT = 3,   /* return: seq, u; at once */
    SS_TYPE_ACK = 4,      /* return: everything up to seq is durable */
    SS_TYPE_RESUME = 5,   /* the server's last durable seq of a (device, epoch) */
    SS_TYPE_GRADIENT = 6, /* return: gradient at a cut */
    SS_TYPE_DELTA = 7,    /* return: weight delta */
    SS_TYPE_MIXTURE = 8,  /* mixture parameters */
    SS_TYPE_END = 127,    /* written and read by the stream itself */
    SS_TYPE_KEEPALIVE = 128
} ss_type;

/** Name as in "gradient", or NULL; type of a name, or 0. */
const char *ss_type_name(int type);
int ss_type_parse(const char *name);

/** Flags of a record. Bits 4-7 are reserved and must be 0. */
enum {
    SS_FLAG_CLIP_END = 1, /* the last record of its clip: windows do not reach past it */
    SS_FLAG_REDUCED = 2,  /* features at reduced resolution */
    SS_FLAG_PADDED = 4    /* the window was filled up at the end of its clip */
};

/** Registered attributes: number, and how its value is read. Sizes on the wire: the smallest that holds it.
 */
typedef enum ss_attr {
    SS_ATTR_SPLIT = 1,       /* unsigned: 0 input, 1 + k cut after block k (0..8), 10 embedding */
    SS_ATTR_CODEC = 2,       /* unsigned */
    SS_ATTR_U = 3,           /* f32, uncertainty in [0, 1] */
    SS_ATTR_NOVELTY = 4,     /* f32, distance to the nearest component */
    SS_ATTR_LABEL = 5,       /* unsigned, index into the header's labels; absent = none */
    SS_ATTR_CLIP = 6,        /* unsigned */
    SS_ATTR_FOLD = 7,        /* unsigned */
    SS_ATTR_GENERATION = 8,  /* unsigned, of the model that touched the record last */
    SS_ATTR_SCALE = 9,       /* f32, value of one step of an i8 payload */
    SS_ATTR_RESOLUTION = 10, /* unsigned: 0 full, 1 32 mels, 2 20 ms hop */
    SS_ATTR_HOLD = 11,       /* unsigned */
    SS_ATTR_LOSS = 12,       /* f32 */
    SS_ATTR_COUNT = 13,      /* unsigned, records in a gap, or windows that an update stands for */
    SS_ATTR_REASON = 14,     /* unsigned: ss_gap_reason */
    SS_ATTR_SENT = 15,       /* unsigned, low 32 bits of real time in us when the last stage wrote it */
    /* Time in microseconds: worked on by a stage; waited for it, from the write before. */
    SS_ATTR_T_CAPTURE = 16,
    SS_ATTR_T_FEATURIZE = 17,
    SS_ATTR_T_POLICY = 18,
    SS_ATTR_T_ENCODE = 19,
    SS_ATTR_T_TRAIN = 20,
    SS_ATTR_T_LINK = 21,
    SS_ATTR_T_SERVE = 22,
    SS_ATTR_T_FINISH = 23,
    SS_ATTR_W_FEATURIZE = 25,
    SS_ATTR_W_POLICY = 26,
    SS_ATTR_W_ENCODE = 27,
    SS_ATTR_W_TRAIN = 28,
    SS_ATTR_W_LINK = 29,
    SS_ATTR_W_SERVE = 30,
    SS_ATTR_W_FINISH = 31,
    SS_ATTR_VERSION_FROM = 32, /* unsigned, model generation that a delta starts from */
    SS_ATTR_VERSION_TO = 33,
    SS_ATTR_ENERGY = 34, /* f32, modelled joules above idle that the device spent on this record so far */
    SS_ATTR_ENERGY_MEASURED = 35, /* f32, measured ones of the whole machine since the record before */
    SS_ATTR_MAX = 63              /* numbers above 35 are free; unknown ones are carried along untouched */
} ss_attr;

typedef enum ss_gap_reason {
    SS_GAP_OVERRUN = 1, /* the sound device overran */
    SS_GAP_DROPPED = 2, /* a bounded queue was full */
    SS_GAP_SOURCE = 3,  /* the source ended early or could not be read */
    SS_GAP_BUDGET = 4   /* left out on purpose */
} ss_gap_reason;

/** Values by attribute number, raw 64 bits; use the accessors. */
typedef struct ss_attrs {
    uint64_t present; /* bit a: attribute a is there */
    uint64_t value[SS_ATTR_MAX + 1];
} ss_attrs;

bool ss_attr_has(const ss_attrs *a, int attr);
uint64_t ss_attr_uint(const ss_attrs *a, int attr, uint64_t otherwise);
float ss_attr_f32(const ss_attrs *a, int attr, float otherwise);
void ss_attr_set_uint(ss_attrs *a, int attr, uint64_t v);
void ss_attr_set_f32(ss_attrs *a, int attr, float v);
void ss_attr_clear(ss_attrs *a, int attr);
/** Name as in "novelty", or NULL; number of a name, or 0. True when the registry reads the value as f32. */
const char *ss_attr_name(int attr);
int ss_attr_parse(const char *name);
bool ss_attr_is_float(int attr);

/** Cuts as attribute SS_ATTR_SPLIT carries them. Text: "input", "0".."8", "embedding". */
enum { SS_CUT_INPUT = 0, SS_CUT_BLOCK0 = 1, SS_CUT_EMBEDDING = 10 };
/** Cut of a text, or SS_EINVAL; text of a cut (static string), or NULL. */
int ss_cut_parse(const char *text);
const char *ss_cut_name(int cut);

typedef struct ss_record {
    uint8_t type, flags, dtype, rank;
    uint32_t dim[SS_MAX_RANK];
    uint32_t device;
    uint64_t epoch; /* new at every start of a capture: its real time in ns */
    uint64_t seq;
    int64_t time_ns; /* real time of the record's first sample */
    ss_attrs attrs;
    size_t size;      /* bytes of payload; product of dims times dtype size unless packed */
    const void *data; /* aligned to 64 bytes when read */
} ss_record;

/**
 * The preamble's JSON header, as data. Strings are owned by the header; release with ss_header_clear.
 * Members that are not known are kept in `rest` (a JSON object as text, or NULL) and passed on.
 */
typedef struct ss_header {
    char kind[32];          /* "pcm", "logmel", "cut", "embedding", "return": a hint for people and checks */
    double rate;            /* samples a second of the sound it comes from, 0 = unknown */
    char *frontend;         /* front-end parameters, JSON object as text, or NULL */
    char frontend_hash[17]; /* 16 hex digits or "" */
    char arch_hash[17];     /* 16 hex digits or "" */
    char **labels;          /* label table */
    uint32_t nlabels;
    char **provenance; /* one JSON object as text for each stage, first stage first */
    uint32_t nprovenance;
    char *rest;
} ss_header;

void ss_header_clear(ss_header *h);
int ss_header_copy(ss_header *to, const ss_header *from, ss_err *e);
/**
 * Append {"program":..., "version":..., "arguments":[argv[0] .. argv[argc - 1]]}; bytes that are not UTF-8
 * become '?', and arguments beyond 4096 bytes are left out with "..." in their place.
 */
int ss_header_add_provenance(ss_header *h, const char *program, const char *version, int argc, char **argv,
                             ss_err *e);
int ss_header_add_label(ss_header *h, const char *label,
                        ss_err *e); /* its index; the old one if it is there */

typedef struct ss_limits {
    size_t max_header;  /* bytes of JSON, 0 = the default: 1 MiB, which the format allows at most */
    size_t max_payload; /* bytes of one record, 0 = the default: 64 MiB */
} ss_limits;

typedef struct ss_reader ss_reader;
typedef struct ss_writer ss_writer;

/**
 * Start reading; `limits` may be NULL. The descriptor stays the caller's. Reads the preamble at the first
 * ss_reader_header or ss_reader_next.
 */
int ss_reader_open(ss_reader **r, int fd, const ss_limits *limits, ss_err *e);
int ss_reader_header(ss_reader *r, const ss_header **h, ss_err *e);

/** 1 and a record, 0 after the end record, negative on error. The end record itself is not delivered. */
int ss_reader_next(ss_reader *r, const ss_record **rec, ss_err *e);

/**
 * From now on never wait: when the descriptor, which has to be in O_NONBLOCK, has nothing more to give,
 * ss_reader_header and ss_reader_next return SS_EAGAIN and keep what they have, also in the middle of a
 * payload; call them again when poll says readable. Records may be in the buffer while poll says nothing: go
 * on until SS_EAGAIN comes before waiting. A tied writer and the stop flag are not looked at.
 */
void ss_reader_set_nonblocking(ss_reader *r);

/**
 * True when the next ss_reader_next will not wait for input: a whole record (or as much of it as the buffer
 * of 64 KiB holds), the end of the file or a failure is there already. Never waits itself. The end record is
 * not ready: behind it the reader waits for the end of the file. Always true of a reader that never waits.
 */
bool ss_reader_ready(ss_reader *r);

/**
 * Flush `w` before every read that would block, so that a filter holds nothing back. NULL unties, which must
 * come before `w` is closed. When the flush fails, the reading call returns that error.
 */
void ss_reader_tie(ss_reader *r, ss_writer *w);

/**
 * Once *stop is not 0, go on while input keeps coming but give up, as if the end record had been read, when
 * nothing has come for grace_ms. (A signal handler sets it; in a pipeline the source then ends the stream.) A
 * reader that waits looks at it every 250 ms. Before the header has come, ss_reader_header returns
 * SS_ESTOPPED.
 */
void ss_reader_set_stop(ss_reader *r, const volatile int *stop, int grace_ms);

bool ss_reader_ended(const ss_reader *r);      /* the end was read, or a stop ended it */
uint64_t ss_reader_count(const ss_reader *r);  /* records delivered */
uint64_t ss_reader_offset(const ss_reader *r); /* bytes consumed */
void ss_reader_close(ss_reader **r);

/**
 * Start writing and write the preamble (buffered). The descriptor stays the caller's. A pipe of 64 KiB is
 * made one of 256 KiB, where the system allows, before the first payload that is larger than it. A failed
 * write is SS_EIO with errno as the system set it (EPIPE included, if SIGPIPE is ignored), and so is every
 * call after it.
 */
int ss_writer_open(ss_writer **w, int fd, const ss_header *h, ss_err *e);
int ss_writer_put(ss_writer *w, const ss_record *rec, ss_err *e);
int ss_writer_flush(ss_writer *w, ss_err *e);
int ss_writer_end(ss_writer *w, ss_err *e); /* end record and flush */
/**
 * A writer that collects bytes in memory, for who sends them when poll says writable: ss_writer_pending gives
 * them (valid until the next call on `w`), ss_writer_drained takes the first n of them away. Puts never fail
 * but for SS_EINVAL and SS_ENOMEM, which leave the stream as it was; there is no bound but the caller's, who
 * looks at what is pending before he puts more. Flushing does nothing.
 */
int ss_writer_open_memory(ss_writer **w, const ss_header *h, ss_err *e);
const void *ss_writer_pending(const ss_writer *w, size_t *n);
void ss_writer_drained(ss_writer *w, size_t n);

uint64_t ss_writer_count(const ss_writer *w);
uint64_t
ss_writer_offset(const ss_writer *w); /* bytes put, preamble and those still in the buffer included */
void ss_writer_close(ss_writer **w);  /* writes nothing more */

/**
 * Stage times: ss_stage_begin says when a record was taken up and adds its waiting time since `sent`;
 * ss_stage_end adds the time worked and stamps `sent`, so that it comes right before ss_writer_put, which
 * writes records as they are given.
 *
 * `work` and `wait` are attributes of the stage (SS_ATTR_T_..., SS_ATTR_W_..., 0 = none); `begun` is what
 * ss_stage_begin returned: monotonic clock, ns.
 */
int64_t ss_stage_begin(ss_attrs *a, int wait);
void ss_stage_end(ss_attrs *a, int work, int64_t begun);

#endif

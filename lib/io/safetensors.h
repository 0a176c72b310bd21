/**
 * safetensors files: named arrays behind a JSON header.
 *
 * Layout: header length (u64, little-endian), header (JSON object: name -> {dtype, shape, data_offsets}, and
 * "__metadata__": string -> string), data. The reader holds the header to the format before it believes any
 * of it: length against cap and file size, no unknown or missing or duplicate member, shape times dtype
 * against offsets, no gap, no overlap, no byte behind the last array. Data need not be aligned in the file;
 * they are read into the caller's memory.
 *
 * Digest: files that we write carry two metadata more, the last ones. "streamsplit.checksums": 8 hex digits
 * for each tensor in the order of the data, CRC-32C of its bytes. "streamsplit.digest": 16 hex digits,
 * CRC-32C of length and header with these digits as zeros, then CRC-32C of the data. Any changed bit and any
 * missing byte shows, and a tensor can be read and verified alone. Files of version 0.1.0 have the digest
 * only.
 *
 * Ownership: names and texts belong to the reader. One thread, but for ss_st_read_part and ss_st_expect,
 * which several may call at the same time. Errors: SS_EIO, SS_EDAMAGED, SS_ETRUNC, SS_EUNFIT (dtype that is
 * not known, rank above 8), SS_ENOMEM. Source: https://github.com/huggingface/safetensors, README.md,
 * "Format".
 */
#ifndef SS_IO_SAFETENSORS_H
#define SS_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"
#include "stream.h"

#define SS_ST_MAX_HEADER  (4 << 20) /* bytes of JSON */
#define SS_ST_MAX_TENSORS 16384

typedef struct ss_st_tensor {
    const char *name;
    const char *type; /* "F32", "BF16", "BOOL", ... */
    int dtype;        /* SS_DTYPE_..., 0 for one that streams do not have (BOOL, U16, U32, U64, F8...) */
    int rank;
    uint64_t dim[SS_MAX_RANK];
    size_t count, size; /* elements, bytes */
    uint64_t offset;    /* of the data's first byte */
} ss_st_tensor;

typedef struct ss_st_meta {
    const char *key, *value;
} ss_st_meta;

typedef struct ss_st ss_st;

/** Opens and checks the header. A regular file is asked for. */
int ss_st_open(ss_st **s, const char *path, ss_err *e);
/** The same for bytes in memory, borrowed until close. */
int ss_st_open_memory(ss_st **s, const void *bytes, size_t n, ss_err *e);
void ss_st_close(ss_st **s);

/** What was opened, for messages; "memory" for bytes. */
const char *ss_st_path(const ss_st *s);
/** Tensors in the order of their data. */
int ss_st_count(const ss_st *s);
const ss_st_tensor *ss_st_tensor_at(const ss_st *s, int i);
const ss_st_tensor *ss_st_find(const ss_st *s, const char *name); /* NULL when there is none */
/** Value of a metadata key, or NULL; the i-th pair, or NULL behind the last. */
const char *ss_st_meta_value(const ss_st *s, const char *key);
const ss_st_meta *ss_st_meta_at(const ss_st *s, int i);
/** "F32 [16][1][7][7]" into out; a NULL type is taken from the dtype. */
const char *ss_st_shape_text(const ss_st_tensor *t, char *out, size_t room);

/** Reads all data against the digest: 1 it agrees, 0 there is none (a foreign file), SS_EDAMAGED it differs.
 */
int ss_st_check(ss_st *s, ss_err *e);
/**
 * The same for the header alone: after 1, whatever is read of the data is verified when it is read. A file
 * with the digest only is read as a whole here.
 */
int ss_st_check_header(ss_st *s, ss_err *e);
/** t->size bytes as they are in the file, little-endian. SS_EDAMAGED: not those of the digest. */
int ss_st_read(ss_st *s, const ss_st_tensor *t, void *to, ss_err *e);
/** n of them from byte `at` on; *crc (0 to start) goes on over them. They are verified only by ss_st_expect.
 */
int ss_st_read_part(ss_st *s, const ss_st_tensor *t, size_t at, size_t n, void *to, uint32_t *crc, ss_err *e);
/** SS_EDAMAGED when crc is not that of the tensor's bytes; SS_OK also before or without a check of the
 * header.
 */
int ss_st_expect(const ss_st *s, const ss_st_tensor *t, uint32_t crc, ss_err *e);
/** t->count values of an F32, F16, BF16 or F64 tensor; SS_EUNFIT for others. */
int ss_st_read_f32(ss_st *s, const ss_st_tensor *t, float *to, ss_err *e);

typedef struct ss_st_array {
    const char *name;
    int dtype; /* not packed */
    int rank;
    uint64_t dim[SS_MAX_RANK];
    const void *data; /* borrowed during the call */
} ss_st_array;

enum {
    SS_ST_PLAIN = 16 /* no digest: a file for other programs */
};

/**
 * Write a file as ss_atomic does, and read it back against the digest. Arrays come in the order of falling
 * element size, so that each is aligned; the header is padded with spaces to a multiple of 8. flags
 * SS_ATOMIC_KEEP, SS_ST_PLAIN Errors: SS_EINVAL (two arrays of one name, a dtype that cannot be stored),
 * SS_ELIMIT (header above its cap), SS_EIO, SS_ENOMEM.
 */
int ss_st_write(const char *path, unsigned flags, const ss_st_array *a, int n, const ss_st_meta *meta,
                int nmeta, ss_err *e);

#endif

/*
 * Random numbers, and the arithmetic of a mixture of Gaussians: as elements.h, over a vector header. Loops in
 * plain C are left to the compiler, which vectorises them for the level. Nothing here is fused, so that the
 * plain definition is fast on any CPU. Private.
 */
#ifndef SS_KERNELS_MEMORY_VEC_H
#define SS_KERNELS_MEMORY_VEC_H

#include <math.h>
#include <string.h>

#include "base/rng_normal.h"
#include "kernels/elements.h"

enum {
    BLOCKS = 4 * WL
}; /* of random numbers that are made side by side: enough to hide what one waits for */

/* word [4][BLOCKS]: the four numbers of blocks at, at + step, ... */
static inline __attribute__((always_inline)) void random_blocks(const ss_rng *r, uint64_t at, uint64_t step,
                                                                uint32_t word[4][BLOCKS])
{
    uint64_t lane[WL];
    for (uint64_t i = 0; i < WL; i++)
        lane[i] = i * step;
    vwide c[4][4];
#pragma GCC unroll 4
    for (uint64_t v = 0; v < 4; v++) {
        c[v][0] = wadd(wset1(at + v * WL * step), wload(lane));
        c[v][1] = whigh(c[v][0]);
        c[v][2] = wset1(r->stream);
        c[v][3] = wset1(r->stream >> 32);
    }
    uint32_t k0 = (uint32_t)r->key, k1 = (uint32_t)(r->key >> 32);
    /* High halves of a lane are left as they come: products do not read them. */
#pragma GCC unroll 10
    for (int i = 0; i < SS_PHILOX_ROUNDS; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            vwide p0 = wmul(c[v][0], wset1(SS_PHILOX_M0)), p1 = wmul(c[v][2], wset1(SS_PHILOX_M1));
            c[v][0] = wxor(wxor(whigh(p1), c[v][1]), wset1(k0));
            c[v][1] = p1;
            c[v][2] = wxor(wxor(whigh(p0), c[v][3]), wset1(k1));
            c[v][3] = p0;
        }
        k0 += SS_PHILOX_W0;
        k1 += SS_PHILOX_W1;
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        wstore_low(word[q], c[0][q], c[1][q]);
        wstore_low(word[q] + 2 * WL, c[2][q], c[3][q]);
    }
}

/* n normals from block `at` on, as ss_rng_fill_normal. */
static inline __attribute__((always_inline)) void normals(const ss_rng *r, uint64_t at, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 4 * BLOCKS, at += BLOCKS) {
        uint32_t u[4][BLOCKS];
        float z[4][BLOCKS], rest[4 * BLOCKS], *to = n - i < 4 * BLOCKS ? rest : out + i;
        random_blocks(r, at, 1, u);
        for (int j = 0; j < BLOCKS; j++)
            ss_normal_pair(u[0][j], u[1][j], &z[0][j], &z[1][j]);
        for (int j = 0; j < BLOCKS; j++)
            ss_normal_pair(u[2][j], u[3][j], &z[2][j], &z[3][j]);
        for (int j = 0; j < BLOCKS; j++)
            for (int q = 0; q < 4; q++)
                to[4 * j + q] = z[q][j];
        if (to == rest)
            memcpy(out + i, rest, (n - i) * sizeof *out);
    }
}

static void fill_normal(const ss_rng *r, uint64_t at, size_t n, float *out)
{
    normals(r, at, n, out);
}

static void mix_distances(size_t dim, size_t stride, const float *z, const float *mean, float *d2)
{
    for (size_t c = 0; c < stride; c += ROW_CHAINS) {
        vf sum[ROW_CHAINS / VL];
        for (size_t j = 0; j < ROW_CHAINS / VL; j++)
            sum[j] = vset1(0.0f);
        for (size_t k = 0; k < dim; k++)
            for (size_t j = 0; j < ROW_CHAINS / VL; j++) {
                vf d = vsub(vset1(z[k]), vload(mean + k * stride + c + j * VL));
                sum[j] = vadd(sum[j], vmul(d, d));
            }
        for (size_t j = 0; j < ROW_CHAINS / VL; j++)
            vstore(d2 + c + j * VL, sum[j]);
    }
}

static void mix_follow(size_t dim, size_t stride, const float *z, const float *step, float *mean,
                       float *variance, float *spread)
{
    for (size_t c = 0; c < stride; c += ROW_CHAINS) {
        bool moves = false;
        for (size_t j = 0; j < ROW_CHAINS; j++)
            moves |= step[c + j] != 0;
        if (!moves)
            continue;
        for (size_t i = c; i < c + ROW_CHAINS; i += VL) {
            vf s = vload(step + i), keep = vsub(vset1(1.0f), s), sum = vset1(0.0f);
            for (size_t k = 0; k < dim; k++) {
                size_t at = k * stride + i;
                vf m = vload(mean + at), d = vsub(vset1(z[k]), m), sd = vmul(s, d);
                vf v = vmul(keep, vadd(vload(variance + at), vmul(sd, d)));
                vstore(mean + at, vadd(m, sd));
                vstore(variance + at, v);
                sum = vadd(sum, v);
            }
            vstore(spread + i, sum);
        }
    }
}

static inline float fold_mix(float lane[ROW_CHAINS])
{
    for (size_t half = ROW_CHAINS / 2; half; half /= 2)
        for (size_t j = 0; j < half; j++)
            lane[j] += lane[j + half];
    return lane[0];
}

static float mix_softmax(size_t n, const float *score, float *p)
{
    vf most = vset1(-INFINITY);
    for (size_t i = 0; i < n; i += VL)
        most = vmax(vload(score + i), most);
    float top = -INFINITY, lane[VL], sums[ROW_CHAINS] = {0}, dots[ROW_CHAINS] = {0};
    vstore(lane, most);
    for (size_t j = 0; j < VL; j++)
        top = lane[j] > top ? lane[j] : top;
    for (size_t i = 0; i < n; i += ROW_CHAINS) {
        float e[ROW_CHAINS];
        for (size_t j = 0; j < ROW_CHAINS; j++) {
            float l = score[i + j] - top;
            uint32_t counts = 0 - (uint32_t)(l > -87.0f);
            e[j] = ss_float_of_bits(ss_bits_of_float(ss_expf(l)) & counts);
            sums[j] += e[j];
            dots[j] += e[j] * ss_float_of_bits(ss_bits_of_float(l) & counts);
        }
        if (p)
            memcpy(p + i, e, sizeof e);
    }
    float sum = fold_mix(sums), h = ss_logf(sum) - fold_mix(dots) / sum;
    for (size_t i = 0; p && i < n; i += VL)
        vstore(p + i, vdiv(vload(p + i), vset1(sum)));
    return h > 0 ? h : 0;
}

static void mix_rows(size_t dim, size_t stride, const float *mean, const float *variance, float *row_mean,
                     float *row_deviation)
{
    for (size_t c = 0; c < stride; c += VL)
        for (size_t k = 0; k < dim; k += VL) {
            vf m[VL], v[VL];
            for (size_t i = 0; i < VL; i++) {
                size_t at = (k + i) * stride + c;
                m[i] = k + i < dim ? vload(mean + at) : vset1(0.0f);
                v[i] = k + i < dim ? vsqrt(vload(variance + at)) : vset1(0.0f);
            }
            vtranspose(m);
            vtranspose(v);
            for (size_t i = 0; i < VL; i++) {
                vstoren(row_mean + (c + i) * dim + k, m[i], dim - k);
                vstoren(row_deviation + (c + i) * dim + k, v[i], dim - k);
            }
        }
}

/* z [dim] = mean + deviation * normal, or the same with normal turned round; square: the sum of its squares,
 * in lanes */
static inline __attribute__((always_inline)) void
place(const ss_mix_rows *m, size_t c, bool turned, const float *normal, float *z, float square[ROW_CHAINS])
{
    const size_t dim = (size_t)m->dim;
    const float *mean = m->mean + c * dim, *deviation = m->deviation + c * dim;
    vf sum[ROW_CHAINS / VL];
    for (size_t j = 0; j < ROW_CHAINS / VL; j++)
        sum[j] = vset1(0.0f);
    for (size_t k = 0; k < dim; k += ROW_CHAINS)
        for (size_t j = 0; j < ROW_CHAINS / VL && k + j * VL < dim; j++) {
            size_t at = k + j * VL, left = dim - at;
            vf far = vmul(vloadn(deviation + at, left), vloadn(normal + at, left));
            vf v = vloadn(mean + at, left);
            v = turned ? vsub(v, far) : vadd(v, far);
            vstoren(z + at, v, left);
            sum[j] = vadd(sum[j], vmul(v, v));
        }
    for (size_t j = 0; j < ROW_CHAINS / VL; j++)
        vstore(square + j * VL, sum[j]);
}

static void mix_draw(const ss_mix_rows *m, const ss_rng *r, size_t n, float *out)
{
    const size_t dim = (size_t)m->dim;
    const uint64_t first = r->next >> 2, step = (dim + 3) / 4 + 1;
    for (size_t i0 = 0; i0 < n; i0 += BLOCKS) {
        uint32_t word[4][BLOCKS], which[BLOCKS] = {0};
        float u[BLOCKS];
        random_blocks(r, first + i0 * step, step, word);
        if (i0 == 0)
            word[0][0] = word[r->next & 3][0];
        for (int j = 0; j < BLOCKS; j++)
            u[j] = ss_uniform_of_bits(word[0][j]);
        for (int c = 0; c < m->components - 1; c++)
            for (int j = 0; j < BLOCKS; j++)
                which[j] += u[j] >= m->cumulative[c];
        const size_t rows = n - i0 < BLOCKS ? n - i0 : BLOCKS;
        float square[BLOCKS][ROW_CHAINS] = {{0}}, scale[BLOCKS];
        for (size_t i = 0; i < rows;
             i += 2) { /* first what is turned round, since the other takes its place */
            float *z = out + (i0 + i) * dim;
            normals(r, first + (i0 + i) * step + 1, dim, z);
            if (i + 1 < rows)
                place(m, which[i + 1], true, z, z + dim, square[i + 1]);
            place(m, which[i], false, z, z, square[i]);
        }
        for (size_t i = 0; i < BLOCKS; i += VL)
            vstore(scale + i, vdiv(vset1(1.0f), vsqrt(vadd(fold_rows(square + i), vset1(1e-12f)))));
        for (size_t i = 0; i < rows; i++)
            for (size_t k = 0; k < dim; k += VL) {
                float *z = out + (i0 + i) * dim + k;
                vstoren(z, vmul(vloadn(z, dim - k), vset1(scale[i])), dim - k);
            }
    }
}

#define MEMORY                                                                                               \
    .fill_normal = fill_normal, .mix_distances = mix_distances, .mix_follow = mix_follow,                    \
    .mix_softmax = mix_softmax, .mix_rows = mix_rows, .mix_draw = mix_draw

#endif

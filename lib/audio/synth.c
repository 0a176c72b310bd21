#include "audio/synth.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define RATE        SS_SYNTH_RATE
#define MAX_SAMPLES (6 * RATE)
#define FRAME       400 /* samples over which loudness is taken */

struct ss_synth {
    uint64_t seed;
    ss_synth_scene scene;
    uint32_t at;  /* samples of the scene delivered */
    float *mix;   /* [MAX_SAMPLES] */
    float *one;   /* [MAX_SAMPLES], one source */
    float *noise; /* [MAX_SAMPLES] */
};

/* Arithmetic that is the same everywhere: floor and sqrt are exact, the rest is + - * /. */

/* sin(2 pi turn) */
static double wave(double turn)
{
    double p = turn - floor(turn + 0.5); /* [-1/2, 1/2) */
    p = p > 0.25 ? 0.5 - p : p < -0.25 ? -0.5 - p : p;
    double x = 6.283185307179586 * p, x2 = x * x;
    return x * (1 - x2 / 6 * (1 - x2 / 20 * (1 - x2 / 42 * (1 - x2 / 72 * (1 - x2 / 110)))));
}

static double cosine(double turn)
{
    return wave(turn + 0.25);
}

/* 2^x */
static double octaves(double x)
{
    double whole = floor(x), y = (x - whole) * 0.6931471805599453, term = 1, sum = 1;
    for (int i = 1; i < 14; i++) {
        term *= y / i;
        sum += term;
    }
    for (; whole > 0; whole--)
        sum *= 2;
    for (; whole < 0; whole++)
        sum *= 0.5;
    return sum;
}

static double decibels(double db)
{
    return octaves(db / 6.020599913279624);
}

static double between(ss_rng *r, double low, double high)
{
    return low + (high - low) * ss_rng_uniform(r);
}

/* base * 2^(0..span): even in pitch. */
static double pitched(ss_rng *r, double base, double span)
{
    return base * octaves(between(r, 0, span));
}

static int whole(ss_rng *r, int low, int high)
{
    return low + (int)ss_rng_below(r, (uint32_t)(high - low + 1));
}

/* What it is multiplied by at each sample falls to 1/1000 in t seconds. */
static double fall(double t)
{
    return octaves(-9.965784284662087 / (t * RATE));
}

/* Pause in samples until the next of events that come at random, `rate` a second on average: of two to four
 * uniform parts, which is close to what an exponential law gives and bounded. */
static int pause(ss_rng *r, double rate)
{
    double u = between(r, 0, 1) * between(r, 0, 1);
    return (int)(RATE / rate * (0.05 + 3.8 * u));
}

/* Two-pole resonance at hz with the given bandwidth, gain about 1 at its peak. */
typedef struct resonance {
    double gain, a1, a2, y1, y2;
} resonance;

static void tune(resonance *q, double hz, double width)
{
    if (hz > 0.47 * RATE)
        hz = 0.47 * RATE;
    double rad = octaves(-4.532360141827194 * width / RATE); /* exp(-pi width / rate) */
    q->a1 = 2 * rad * cosine(hz / RATE);
    q->a2 = -rad * rad;
    q->gain = (1 - rad) * sqrt(1 + rad * rad - 2 * rad * cosine(2 * hz / RATE));
}

static double resonate(resonance *q, double x)
{
    double y = q->gain * x + q->a1 * q->y1 + q->a2 * q->y2;
    q->y2 = q->y1;
    q->y1 = y;
    return y;
}

/* Share of the old value that a one-pole low pass of this corner keeps. */
static double keep(double hz)
{
    return octaves(-9.064720283654388 * hz / RATE); /* exp(-2 pi hz / rate) */
}

static double noise(ss_rng *r)
{
    return 2 * ss_rng_uniform(r) - 1;
}

/*
 * The sources. Each fills x [n] at any loudness; `drift` in -0.5..0.5 octaves moves its pitch or rate slowly
 * over the soundscape.
 */

/* A hiss of a band, and single drops in it. */
static void rain(float *x, int n, ss_rng *r, double drift)
{
    double low = keep(pitched(r, 900, 2.5)), high = keep(pitched(r, 60, 3)), a = 0, b = 0, drops = 0;
    double density = pitched(r, 40, 3) * octaves(drift) / RATE, force = between(r, 1, 6);
    resonance drop = {0};
    tune(&drop, pitched(r, 1200, 1.8), 900);
    for (int i = 0; i < n; i++) {
        double e = noise(r);
        a += (1 - low) * (e - a);
        b += (1 - high) * (a - b);
        drops = ss_rng_uniform(r) < density ? force * noise(r) : 0;
        x[i] = (float)(a - b + 6 * resonate(&drop, drops));
    }
}

/* Harmonics of a slow pitch that wanders, beating at half of it, with some noise of combustion. */
static void engine(float *x, int n, ss_rng *r, double drift)
{
    double hz = pitched(r, 28, 2.2) * octaves(drift), turn = 0, wobble = between(r, 0.1, 0.8),
           depth = between(r, 0.01, 0.12), phase = between(r, 0, 1), rough = between(r, 0.05, 0.5);
    double rev = between(r, -0.25, 0.25), tone[24];
    int harmonics = whole(r, 8, 24);
    for (int h = 0; h < harmonics; h++)
        tone[h] = between(r, 0.2, 1) / (1 + 0.25 * h);
    for (int i = 0; i < n; i++) {
        double t = (double)i / RATE;
        turn += hz * octaves(depth * wave(wobble * t + phase) + rev * t / 4) / RATE;
        double s = 0;
        for (int h = 0; h < harmonics; h++)
            s += tone[h] * wave((h + 1) * turn + 0.13 * h * h);
        double beat = 1 + 0.5 * wave(turn / 2);
        x[i] = (float)(beat * (s + rough * noise(r) * (1 + wave(turn))));
    }
}

/* Phrases of short whistles that glide up or down. */
static void bird(float *x, int n, ss_rng *r, double drift)
{
    double base = pitched(r, 1500, 1.4) * octaves(0.6 * drift), bend = between(r, -0.7, 0.7),
           rate = between(r, 4, 14);
    double trill = between(r, 0, 1) < 0.4 ? between(r, 20, 45) : 0, second = between(r, 0, 0.3);
    int notes = whole(r, 2, 9), at = pause(r, 2);
    while (at < n) {
        for (int k = 0; k < notes && at < n; k++) {
            int length = (int)(RATE / rate * between(r, 0.5, 0.8));
            double hz = base * octaves(between(r, -0.2, 0.2)), turn = 0, loud = between(r, 0.5, 1);
            for (int i = 0; i < length && at + i < n; i++) {
                double p = (double)i / length, shape = 4 * p * (1 - p);
                turn +=
                    hz * octaves(bend * (p - 0.5) + (trill > 0 ? 0.08 * wave(trill * i / RATE) : 0)) / RATE;
                x[at + i] += (float)(loud * shape * (wave(turn) + second * wave(2 * turn)));
            }
            at += (int)(RATE / rate);
        }
        at += pause(r, 1.5);
    }
}

static void ring(float *x, int n, int at, double hz, double seconds, double loud)
{
    double d = fall(seconds), amp = loud, turn = 0;
    for (int i = at; i < n && amp > 1e-4 * loud; i++, amp *= d, turn += hz / RATE)
        x[i] += (float)(amp * wave(turn));
}

/* Ticks at an even pace, every second one a little different. */
static void clock_ticks(float *x, int n, ss_rng *r, double drift)
{
    double pace = RATE / (pitched(r, 1.6, 2) * octaves(drift)), hz[2][3], seconds[3],
           other = between(r, 0.8, 1.25);
    for (int k = 0; k < 3; k++) {
        hz[0][k] = pitched(r, 700, 2.9);
        hz[1][k] = hz[0][k] * other;
        seconds[k] = pitched(r, 0.015, 2.5);
    }
    int tick = whole(r, 0, 1);
    for (double at = between(r, 0, pace); at < n; at += pace, tick++)
        for (int k = 0; k < 3; k++)
            ring(x, n, (int)at, hz[tick & 1][k], seconds[k], tick & 1 ? 1 : 0.7);
}

/* Bursts of a falling voice with breath, in twos and threes. */
static void bark(float *x, int n, ss_rng *r, double drift)
{
    double base = pitched(r, 220, 1.7) * octaves(drift), breath = between(r, 0.2, 0.9);
    resonance throat[2] = {{0}};
    tune(&throat[0], pitched(r, 500, 0.9), 180);
    tune(&throat[1], pitched(r, 1200, 1), 350);
    int at = pause(r, 2.5);
    while (at < n) {
        int group = whole(r, 1, 3);
        for (int k = 0; k < group && at < n; k++) {
            int length = (int)(RATE * between(r, 0.08, 0.22));
            double turn = 0, hz = base * octaves(between(r, -0.2, 0.2));
            for (int i = 0; i < length && at + i < n; i++) {
                double p = (double)i / length, shape = p < 0.1 ? p * 10 : (1 - p) / 0.9;
                turn += hz * octaves(0.5 * shape - 0.4 * p) / RATE;
                double saw = 2 * (turn - floor(turn)) - 1, e = shape * (saw + breath * noise(r));
                x[at + i] += (float)(resonate(&throat[0], e) + 0.7 * resonate(&throat[1], e) + 0.05 * e);
            }
            at += length + (int)(RATE * between(r, 0.08, 0.25));
        }
        at += pause(r, 1.2);
    }
}

/* A tone that goes up and down without pause. */
static void siren(float *x, int n, ss_rng *r, double drift)
{
    double low = pitched(r, 350, 1.3) * octaves(drift), span = between(r, 0.4, 1.4),
           pace = pitched(r, 0.25, 3.6), phase = between(r, 0, 1), turn = 0, third = between(r, 0.1, 0.5),
           fifth = between(r, 0, 0.3);
    int shape = whole(r, 0, 2); /* smooth, two tones, rising */
    for (int i = 0; i < n; i++) {
        double t = pace * i / RATE + phase, f = t - floor(t);
        double up = shape == 0 ? 0.5 + 0.5 * wave(t) : shape == 1 ? (f < 0.5 ? 0 : 1) : f;
        turn += low * octaves(span * up) / RATE;
        x[i] = (float)(wave(turn) + third * wave(3 * turn) + fifth * wave(5 * turn));
    }
}

/* Single drops: short tones that rise as the bubble shrinks. */
static void drops(float *x, int n, ss_rng *r, double drift)
{
    double rate = pitched(r, 1.2, 2.8) * octaves(drift), base = pitched(r, 500, 1.6);
    for (int at = pause(r, 4); at < n; at += pause(r, rate)) {
        double hz = base * octaves(between(r, -0.4, 0.8)), seconds = between(r, 0.03, 0.12),
               d = fall(seconds), amp = between(r, 0.3, 1), turn = 0,
               rise = octaves(between(r, 0.3, 1.5) / (seconds * RATE));
        for (int i = at; i < n && amp > 1e-4; i++, amp *= d) {
            x[i] += (float)(amp * wave(turn));
            turn += hz / RATE;
            if (hz < 6500)
                hz *= rise;
        }
    }
}

/* Syllables of a pulse train through three formants that move, with an intonation. */
static void babble(float *x, int n, ss_rng *r, double drift)
{
    static const double vowel[6][3] = {{730, 1090, 2440}, {270, 2290, 3010}, {300, 870, 2240},
                                       {530, 1840, 2480}, {570, 840, 2410},  {440, 1020, 2240}};
    double voice = pitched(r, 90, 1.4), size = between(r, 0.88, 1.22),
           pace = between(r, 3, 7) * octaves(0.7 * drift), breath = between(r, 0.01, 0.08), turn = 0;
    resonance f[3] = {{0}};
    int at = pause(r, 4);
    while (at < n) {
        int syllables = whole(r, 3, 10);
        for (int k = 0; k < syllables && at < n; k++) {
            int length = (int)(RATE / pace * between(r, 0.6, 1.3)), from = whole(r, 0, 5),
                to = whole(r, 0, 5);
            double tune_from = between(r, -0.15, 0.2) - 0.03 * k,
                   tune_to = tune_from + between(r, -0.15, 0.15);
            bool fricative = whole(r, 0, 3) == 0;
            for (int i = 0; i < length && at + i < n; i++) {
                double p = (double)i / length, shape = p < 0.15 ? p / 0.15 : p > 0.7 ? (1 - p) / 0.3 : 1;
                if (i % 80 == 0)
                    for (int m = 0; m < 3; m++)
                        tune(&f[m], size * (vowel[from][m] + p * (vowel[to][m] - vowel[from][m])),
                             60 + 40 * m);
                turn += voice * octaves(tune_from + p * (tune_to - tune_from)) / RATE;
                double g = turn - floor(turn), pulse = g < 0.4 ? wave(g / 0.8) : 0;
                double e = shape * (pulse + breath * noise(r)), y = 0;
                for (int m = 0; m < 3; m++)
                    y += resonate(&f[m], e) * (m ? 0.7 : 1);
                if (fricative && p < 0.3)
                    y += 0.03 * noise(r);
                x[at + i] += (float)y;
            }
            at += length;
        }
        at += pause(r, 2);
    }
}

/* Noise whose band and strength swell and sink over seconds. */
static void wind(float *x, int n, ss_rng *r, double drift)
{
    double base = pitched(r, 180, 2) * octaves(drift), width = between(r, 0.3, 1.2),
           whistle = between(r, 0, 0.5);
    double pace[3], phase[3];
    for (int k = 0; k < 3; k++) {
        pace[k] = between(r, 0.15, 1.1);
        phase[k] = between(r, 0, 1);
    }
    resonance q = {0}, w = {0};
    for (int i = 0; i < n; i++) {
        double t = (double)i / RATE, swell = 0;
        for (int k = 0; k < 3; k++)
            swell += wave(pace[k] * t + phase[k]) / 3;
        if (i % 64 == 0) {
            double hz = base * octaves(1.2 * swell);
            tune(&q, hz, width * hz);
            tune(&w, 3.1 * hz, 0.08 * hz);
        }
        double e = noise(r);
        x[i] = (float)(octaves(2.5 * swell) * (resonate(&q, e) + whistle * resonate(&w, e)));
    }
}

/* A high tone in trains of pulses, the trains in a slower beat. */
static void crickets(float *x, int n, ss_rng *r, double drift)
{
    double hz = pitched(r, 2400, 1.2), pulse = pitched(r, 18, 1.6),
           beat = pitched(r, 0.8, 2) * octaves(drift), open = between(r, 0.3, 0.8), turn = 0,
           phase = between(r, 0, 1), other = between(r, 1.02, 1.1);
    bool two = whole(r, 0, 1);
    for (int i = 0; i < n; i++) {
        double t = (double)i / RATE, b = beat * t + phase, p = pulse * t, f = p - floor(p);
        bool on = b - floor(b) < open;
        double shape = on && f < 0.6 ? wave(f / 1.2) : 0, q = 0;
        if (two) {
            double b2 = beat * 0.83 * t, f2 = pulse * other * t - floor(pulse * other * t);
            q = b2 - floor(b2) < open && f2 < 0.6 ? 0.6 * wave(f2 / 1.2) : 0;
        }
        turn += hz / RATE;
        x[i] = (float)(shape * wave(turn) + q * wave(other * turn));
    }
}

/* Groups of blows on wood: low resonances that die at once. */
static void knocking(float *x, int n, ss_rng *r, double drift)
{
    double hz[3], seconds[3], pace = RATE / (between(r, 3, 8) * octaves(0.7 * drift));
    for (int k = 0; k < 3; k++) {
        hz[k] = pitched(r, 110 << k, 1.4);
        seconds[k] = between(r, 0.03, 0.14);
    }
    double at = pause(r, 3);
    while (at < n) {
        int group = whole(r, 2, 6);
        for (int g = 0; g < group && at < n; g++) {
            double loud = between(r, 0.5, 1);
            for (int k = 0; k < 3; k++)
                ring(x, n, (int)at, hz[k] * octaves(between(r, -0.03, 0.03)), seconds[k], loud / (1 + k));
            for (int i = 0; i < 60 && (int)at + i < n; i++)
                x[(int)at + i] += (float)(0.5 * loud * noise(r) * (60 - i) / 60);
            at += pace * between(r, 0.9, 1.1);
        }
        at += pause(r, 1.3);
    }
}

/* Notes of a scale in time, plucked or blown, at times two at once. */
static void music(float *x, int n, ss_rng *r, double drift)
{
    static const int scale[7] = {0, 2, 4, 5, 7, 9, 11};
    double key = pitched(r, 130, 1.5), beat = RATE * 60 / (pitched(r, 90, 1.2) * octaves(0.7 * drift)),
           tone[6];
    bool plucked = whole(r, 0, 1);
    for (int h = 0; h < 6; h++)
        tone[h] = between(r, 0.1, 1) / (1 + h);
    int step = whole(r, 0, 13);
    for (double at = 0; at < n;) {
        double length = beat * (whole(r, 0, 2) ? 0.5 : 1);
        int voices = whole(r, 1, 2);
        step += whole(r, -3, 3);
        step = step < 0 ? 2 : step > 20 ? 18 : step;
        for (int v = 0; v < voices; v++) {
            int degree = step + 2 * v;
            double hz = key * octaves(degree / 7 + scale[degree % 7] / 12.0), turn = 0,
                   d = fall(between(r, 0.4, 1.2)), amp = between(r, 0.6, 1);
            int m = (int)(length * (plucked ? 1.6 : 1));
            for (int i = 0; i < m && (int)at + i < n; i++) {
                double p = (double)i / m, shape = p < 0.02 ? p * 50 : p > 0.9 ? (1 - p) * 10 : 1, s = 0;
                turn += hz / RATE;
                for (int h = 0; h < 6 && hz * (h + 1) < 7600; h++)
                    s += tone[h] * wave((h + 1) * turn);
                x[(int)at + i] += (float)(amp * shape * s);
                if (plucked)
                    amp *= d;
            }
        }
        at += length;
    }
}

static const struct {
    const char *name;
    void (*make)(float *x, int n, ss_rng *r, double drift);
} kinds[SS_SYNTH_KINDS] = {
    {"rain", rain}, {"engine", engine},     {"bird", bird},      {"clock", clock_ticks},
    {"dog", bark},  {"siren", siren},       {"drops", drops},    {"babble", babble},
    {"wind", wind}, {"crickets", crickets}, {"knock", knocking}, {"music", music},
};

const char *ss_synth_kind(int kind)
{
    return kind >= 0 && kind < SS_SYNTH_KINDS ? kinds[kind].name : NULL;
}

/* Random streams under the seed: one for each purpose of each scene. */
enum { PLAN, MAIN, SECOND, ROOM, BACKGROUND, PURPOSES };

static ss_rng scene_rng(uint64_t seed, uint64_t number, int purpose)
{
    return ss_rng_make(seed, number * PURPOSES + purpose + 1);
}

void ss_synth_describe(uint64_t seed, uint64_t number, ss_synth_scene *s)
{
    ss_rng r = scene_rng(seed, number, PLAN);
    s->number = number;
    s->fold = (int)(number % 5) + 1;
    /* Every kind comes once in each round of twelve, in a new order: folds of a short soundscape stay
     * balanced. */
    uint32_t order[SS_SYNTH_KINDS];
    ss_rng round = ss_rng_make(~seed, number / SS_SYNTH_KINDS);
    ss_rng_shuffle(&round, order, SS_SYNTH_KINDS);
    s->kind = (int)order[number % SS_SYNTH_KINDS];
    double length = between(&r, 2, 6);
    s->second = -1;
    if (ss_rng_uniform(&r) < 0.4f) {
        s->second = (int)ss_rng_below(&r, SS_SYNTH_KINDS - 1);
        s->second += s->second >= s->kind;
    }
    if (ss_rng_uniform(&r) < 0.1f) {
        s->kind = s->second = -1;
        length *= 0.5;
        length = length < 2 ? 2 : length;
    }
    s->samples = (uint32_t)(length * RATE);
}

/* Slow wandering, -1..1, smooth over some 30 scenes; one for each `what`. */
static double drift_of(uint64_t seed, uint64_t number, int what)
{
    double at = (double)number / 30, p = at - floor(at), v[2];
    for (int i = 0; i < 2; i++) {
        ss_rng r =
            ss_rng_make(seed ^ 0x5bf0363546294ce7, (uint64_t)floor(at) + i + ((uint64_t)(what + 1) << 48));
        v[i] = between(&r, -1, 1);
    }
    p = p * p * (3 - 2 * p);
    return v[0] + p * (v[1] - v[0]);
}

/* Root mean square of the loudest stretch of FRAME samples. */
static double loudness(const float *x, int n)
{
    double top = 0;
    for (int at = 0; at < n; at += FRAME) {
        double sum = 0;
        int end = at + FRAME < n ? at + FRAME : n;
        for (int i = at; i < end; i++)
            sum += (double)x[i] * x[i];
        top = sum > top ? sum : top;
    }
    return sqrt(top / FRAME);
}

static void scale(float *x, int n, double to)
{
    double loud = loudness(x, n), gain = loud > 0 ? to / loud : 0;
    for (int i = 0; i < n; i++)
        x[i] = (float)(gain * x[i]);
}

/* Where and with what it is heard: a shelf, a resonance, an echo. Draws nothing that tells the kind. */
static void colour(float *x, int n, ss_rng *r)
{
    double k = keep(pitched(r, 300, 3.3)), low = decibels(between(r, -10, 10)), high = 1 / low, state = 0;
    resonance q = {0};
    double hz = pitched(r, 150, 5), width = pitched(r, 80, 3); /* arguments have no order of their own */
    tune(&q, hz, width);
    double peak = between(r, -0.7, 2.5), echo = between(r, 0, 0.6);
    int delay = whole(r, 60, 900);
    for (int i = 0; i < n; i++) {
        state += (1 - k) * (x[i] - state);
        double y = low * state + high * (x[i] - state);
        y += peak * resonate(&q, x[i]);
        x[i] = (float)y;
    }
    for (int i = delay; i < n; i++)
        x[i] += (float)(echo * x[i - delay]);
}

/* Sounds begin and end within the scene: a pause before, after or in the middle, in half of the scenes. */
static void gate(float *x, int n, ss_rng *r)
{
    if (ss_rng_uniform(r) < 0.5f)
        return;
    int length = (int)(n * between(r, 0.15, 0.45)), at = (int)((n - length) * between(r, 0, 1)), edge = 160;
    if (at < n / 8)
        at = 0;
    else if (at + length > n - n / 8)
        at = n - length;
    for (int i = 0; i < length; i++) {
        int from_edge = (at ? i : edge) < (at + length < n ? length - 1 - i : edge)
                            ? (at ? i : edge)
                            : (at + length < n ? length - 1 - i : edge);
        double open = from_edge < edge ? 1 - (double)from_edge / edge : 0;
        x[at + i] = (float)(open * x[at + i]);
    }
}

static void render(ss_synth *s)
{
    const ss_synth_scene *sc = &s->scene;
    int n = (int)sc->samples;
    ss_rng r = scene_rng(s->seed, sc->number, MAIN), room = scene_rng(s->seed, sc->number, ROOM);
    memset(s->mix, 0, n * sizeof *s->mix);
    double level = decibels(between(&room, -32, -12)), snr = between(&room, 8, 35);
    bool silent = sc->kind < 0 && ss_rng_uniform(&room) < 0.5f;
    if (silent)
        return;
    if (sc->kind >= 0) {
        kinds[sc->kind].make(s->mix, n, &r, 0.5 * drift_of(s->seed, sc->number, sc->kind));
        gate(s->mix, n, &r);
        colour(s->mix, n, &room);
        scale(s->mix, n, level);
    }
    if (sc->second >= 0) {
        r = scene_rng(s->seed, sc->number, SECOND);
        memset(s->one, 0, n * sizeof *s->one);
        kinds[sc->second].make(s->one, n, &r, 0.5 * drift_of(s->seed, sc->number, sc->second));
        gate(s->one, n, &r);
        colour(s->one, n, &room);
        scale(s->one, n, level * decibels(between(&r, -20, -8)));
    }
    r = scene_rng(s->seed, sc->number, BACKGROUND);
    ss_rng_fill_uniform(&r, s->noise, n);
    double k = keep(800 * octaves(2.5 * drift_of(s->seed, sc->number, SS_SYNTH_KINDS) + between(&r, -1, 1))),
           state = 0;
    for (int i = 0; i < n; i++) {
        state += (1 - k) * (2 * s->noise[i] - 1 - state);
        s->noise[i] = (float)(state + 0.05 * (2 * s->noise[i] - 1));
    }
    scale(s->noise, n, level * decibels(-snr));
    float peak = 0.98f;
    for (int i = 0; i < n; i++) {
        s->mix[i] += s->noise[i] + (sc->second >= 0 ? s->one[i] : 0);
        float a = fabsf(s->mix[i]);
        peak = a > peak ? a : peak;
    }
    float gain = 0.98f / peak;
    for (int i = 0; i < n; i++)
        s->mix[i] *= gain;
}

int ss_synth_create(ss_synth **out, uint64_t seed, ss_err *e)
{
    ss_synth *s = ss_zalloc(1, sizeof *s);
    *out = s;
    if (s) {
        s->seed = seed;
        s->mix = ss_alloc(MAX_SAMPLES, sizeof *s->mix);
        s->one = ss_alloc(MAX_SAMPLES, sizeof *s->one);
        s->noise = ss_alloc(MAX_SAMPLES, sizeof *s->noise);
        if (s->mix && s->one && s->noise)
            return SS_OK;
    }
    ss_synth_free(s);
    *out = NULL;
    return ss_err_set(e, SS_ENOMEM, "no memory for a scene of sound");
}

void ss_synth_free(ss_synth *s)
{
    if (!s)
        return;
    ss_free(s->mix);
    ss_free(s->one);
    ss_free(s->noise);
    ss_free(s);
}

size_t ss_synth_read(ss_synth *s, float *out, size_t n, ss_synth_scene *scene, uint32_t *left)
{
    if (s->at == s->scene.samples) {
        uint64_t number = s->scene.samples ? s->scene.number + 1 : 0;
        ss_synth_describe(s->seed, number, &s->scene);
        s->at = 0;
        render(s);
    }
    size_t room = s->scene.samples - s->at, k = n < room ? n : room;
    memcpy(out, s->mix + s->at, k * sizeof *out);
    s->at += (uint32_t)k;
    *scene = s->scene;
    *left = s->scene.samples - s->at;
    return k;
}

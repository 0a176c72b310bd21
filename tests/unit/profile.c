#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "failalloc.h"
#include "io/stream.h"
#include "split/profile.h"
#include "unit.h"

#define CHOICE(cut, codec)                                                                                   \
    "{\"cut\":\"" cut "\",\"codec\":\"" codec                                                                \
    "\",\"device_ms\":{\"min\":1,\"median\":2,\"p95\":3.5},\"server_ms\":{\"min\":0.5,\"median\":0.5,"       \
    "\"p95\":9},\"bytes\":{\"mean\":300.5,\"min\":100,\"p5\":150,\"median\":300,\"p95\":500,\"max\":512},"   \
    "\"cosine\":{\"mean\":0.97,\"p5\":0.9},\"probe\":0.81}"
#define HEAD                                                                                                 \
    "{\"format\":\"streamsplit-profile\",\"version\":1,\"model\":{\"architecture\":\"0123456789abcdef\","    \
    "\"width\":0.25,\"mels\":64,\"frames\":96,\"generation\":12},\"hop_ms\":480,\"windows\":200,"            \
    "\"device\":{\"name\":\"pi\",\"cpu\":\"Cortex-A72\",\"threads\":1},"                                     \
    "\"server\":{\"name\":\"big\",\"cpu\":\"EPYC\",\"threads\":2},"                                          \
    "\"energy\":{\"source\":\"model\",\"device\":\"Raspberry Pi 4B\",\"idle_w\":2.2857,\"cpu_w\":4.5344,"    \
    "\"radio\":{\"name\":\"wifi\",\"base_w\":0.064,\"w_per_mbit\":0.004813,\"tail_s\":0,\"tail_w\":0},"      \
    "\"citation\":\"made up for a test\"},\"quality\":{\"measure\":\"probe\",\"full\":0.83},"

static const char good[] = HEAD "\"u\":{\"p5\":0.1,\"p25\":0.2,\"median\":0.4,\"p75\":0.6,\"p95\":0.8},"
                                "\"choices\":[" CHOICE("4", "b16i8") "," CHOICE("embedding", "f32") "]}";

static ss_profile *parsed(const char *text)
{
    ss_profile *p;
    ss_err e = {0};
    int rc = ss_profile_parse(&p, text, strlen(text), "p.json", &e);
    ck_assert_msg(!rc, "%s", e.text);
    return p;
}

START_TEST(read_and_written)
{
    ss_profile *p = parsed(good);
    ck_assert_uint_eq(p->n, 2);
    ck_assert_str_eq(p->architecture, "0123456789abcdef");
    ck_assert(p->width == 0.25 && p->mels == 64 && p->frames == 96 && p->generation == 12);
    ck_assert(p->hop_ms == 480 && p->windows == 200 && p->has_server && p->server.threads == 2);
    ck_assert(p->energy.source == SS_ENERGY_MODEL && p->energy.cpu_w == 4.5344 &&
              p->energy.radio_w_per_mbit == 0.004813);
    const ss_profile_choice *c = p->choice;
    ck_assert(c->cut == SS_CUT_BLOCK0 + 4 && c->device_ms.p95 == 3.5 && c->server_ms.p95 == 9);
    ck_assert(c->bytes.mean == 300.5 && c->bytes.min == 100 && c->bytes.p95 == 500 && c->bytes.max == 512);
    ck_assert(c->cosine_p5 == 0.9 && c->probe == 0.81 && isnan(c->u_low));
    ck_assert_int_eq(ss_profile_find(p, SS_CUT_EMBEDDING, "f32"), 1);
    ck_assert_int_eq(ss_profile_find(p, SS_CUT_EMBEDDING, "f16"), -1);
    /* What was printed is read as the same and printed as the same. */
    p->choice[0].u_low = 0.3125;
    p->choice[0].u_high = 0.5;
    p->choice[1].probe = NAN;
    p->choice[1].server_ms = (ss_profile_ms){NAN, NAN, NAN};
    p->has_server = false;
    char *text, *twice;
    ck_assert_int_eq(ss_profile_print(p, &text, NULL), SS_OK);
    ss_profile *q = parsed(text);
    ck_assert(q->choice[0].u_low == 0.3125 && isnan(q->choice[1].probe) && !q->has_server);
    ck_assert(isnan(q->choice[1].server_ms.median) && q->u.at[4] == 0.8);
    ck_assert_int_eq(ss_profile_print(q, &twice, NULL), SS_OK);
    ck_assert_str_eq(text, twice);
    ss_free(twice);
    ss_profile_free(q);
    ss_free(text);
    /* What could not be read is not written. */
    ss_err e;
    p->choice[0].codec[0] = 'B';
    ck_assert_int_eq(ss_profile_print(p, &text, &e), SS_EDAMAGED);
    ck_assert_ptr_null(text);
    ck_assert_ptr_nonnull(strstr(e.text, "codec is 'B16i8'"));
    ss_profile_free(p);
    ck_assert_uint_eq(ss_mem_used(), 0);
}
END_TEST

/* `good` with the first `from` replaced by `to`. */
static void refused(const char *from, const char *to, int code, const char *says)
{
    char text[8192];
    ss_profile *p;
    ss_err e = {0};
    const char *at = strstr(good, from);
    ck_assert_msg(at, "no '%s'", from);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    int rc = ss_profile_parse(&p, text, strlen(text), "p.json", &e);
    ck_assert_msg(rc == code, "%s for %s: %d, %s", to, from, rc, e.text);
    ck_assert_ptr_null(p);
    ck_assert_msg(strstr(e.text, "profile 'p.json': ") && strstr(e.text, says), "'%s' lacks '%s'", e.text,
                  says);
    ck_assert_uint_eq(ss_mem_used(), 0);
}

START_TEST(refusals)
{
    refused("-profile", "-policy", SS_EUNFIT, "format is 'streamsplit-policy'");
    refused("\"version\":1", "\"version\":2", SS_EUNFIT, "version is 2");
    refused("\"windows\"", "\"window\"", SS_EDAMAGED, "unknown member 'window'");
    refused("\"hop_ms\":480", "\"hop_ms\":0", SS_EDAMAGED, "'hop_ms' is 0");
    refused("\"hop_ms\":480,", "", SS_EDAMAGED, "there is no 'hop_ms'");
    refused("abcdef", "abcdeF", SS_EDAMAGED, "architecture");
    refused("\"cut\":\"4\"", "\"cut\":\"9\"", SS_EDAMAGED, "choice 0: cut is '9'");
    refused("b16i8", "b16/i8", SS_EDAMAGED, "codec is 'b16/i8'");
    refused("b16i8", "", SS_EDAMAGED, "codec is ''");
    refused("b16i8", "b1234567890123456789012345", SS_EDAMAGED, "at most 23");
    refused("\"embedding\",\"codec\":\"f32\"", "\"4\",\"codec\":\"b16i8\"", SS_EDAMAGED, "comes twice");
    refused("\"median\":2", "\"median\":0.5", SS_EDAMAGED, "device_ms: 'median' is 0.5, less than 'min'");
    refused("\"p95\":500", "\"p95\":600", SS_EDAMAGED, "bytes: 'max' is 512, less than 'p95'");
    refused("300.5", "513", SS_EDAMAGED, "bytes: 'mean' is 513");
    refused("\"probe\":0.81", "\"probe\":1.2", SS_EDAMAGED, "'probe' is 1.2");
    refused(",\"probe\":0.81", "", SS_EDAMAGED, "there is no 'probe'");
    refused("\"p75\":0.6", "\"p75\":0.3", SS_EDAMAGED, "u: 'p75' is 0.3, less");
    refused("\"source\":\"model\"", "\"source\":\"guess\"", SS_EDAMAGED, "energy: source is 'guess'");
    refused("\"idle_w\"", "\"cores\":0,\"idle_w\"", SS_EDAMAGED, "energy: 'cores' is 0");
    refused("\"measure\":\"probe\"", "\"measure\":\"ear\"", SS_EDAMAGED, "quality: measure is 'ear'");
    refused("\"threads\":1", "\"threads\":1.5", SS_EDAMAGED, "device: 'threads' is 1.5");
    refused("\"tail_s\":0", "\"tail_s\":-1", SS_EDAMAGED, "energy: 'tail_s'");
    refused("\"choices\":[", "\"choices\":[1,", SS_EDAMAGED, "choice 0: expected an object");
    refused("\"u\":{", "\"u\":{\"p6\":1,", SS_EDAMAGED, "u: unknown member 'p6'");
    static const char *const whole[] = {"", "[]", "1", HEAD "\"choices\":[]}", HEAD "\"choices\":{}}"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        ss_profile *p;
        ck_assert_int_eq(ss_profile_parse(&p, whole[i], strlen(whole[i]), "x", NULL), SS_EDAMAGED);
    }
    /* Every truncation. */
    for (size_t n = 0; n + 1 < sizeof good; n++) {
        ss_profile *p;
        ck_assert_int_eq(ss_profile_parse(&p, good, n, "x", NULL), SS_EDAMAGED);
    }
    size_t room = 1 << 20, n = (size_t)snprintf(NULL, 0, "%s", HEAD);
    char *many = malloc(room);
    memcpy(many, HEAD "\"choices\":[", sizeof HEAD "\"choices\":[");
    n = strlen(many);
    for (int i = 0; i <= SS_PROFILE_MAX_CHOICES; i++)
        n += (size_t)snprintf(many + n, room - n, "%s{}", i ? "," : "");
    n += (size_t)snprintf(many + n, room - n, "]}");
    ss_profile *p;
    ck_assert_int_eq(ss_profile_parse(&p, many, n, "x", NULL), SS_ELIMIT);
    free(many);
}
END_TEST

START_TEST(questions)
{
    ss_profile *p = parsed(good);
    ck_assert(ss_profile_quality(p, p->choice) == 0.81);
    p->choice[0].probe = NAN;
    ck_assert(ss_profile_quality(p, p->choice) == 0.83 * 0.97);
    p->choice[0].probe = 0.81;
    p->quality_is_probe = false;
    ck_assert(ss_profile_quality(p, p->choice) == 0.83 * 0.97);
    p->choice[0].cosine_mean = -0.5;
    ck_assert(ss_profile_quality(p, p->choice) == 0);
    static const double at[][2] = {{0, 0},      {0.05, 0.025}, {0.1, 0.05}, {0.3, 0.375}, {0.4, 0.5},
                                   {0.8, 0.95}, {0.9, 0.975},  {1, 1},      {7, 1},       {-7, 0}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        ck_assert_double_eq_tol(ss_u_rank(&p->u, at[i][0]), at[i][1], 1e-12);
    for (int i = 0; i < 5; i++)
        p->u.at[i] = 0.5; /* all windows alike */
    ck_assert_double_eq_tol(ss_u_rank(&p->u, 0.25), 0.025, 1e-12);
    ck_assert_double_eq_tol(ss_u_rank(&p->u, 0.75), 0.975, 1e-12);
    ck_assert_double_eq_tol(ss_profile_compute_j(p, 100), 0.45344, 1e-12);
    p->energy.cores = 4;
    ck_assert_double_eq_tol(ss_profile_compute_j(p, 100), 0.11336, 1e-12);
    p->device.threads = 8;
    ck_assert_double_eq_tol(ss_profile_compute_j(p, 100), 0.45344, 1e-12);
    p->u.at[0] = NAN;
    ck_assert(ss_u_rank(&p->u, 0.3) == 0.3);
    ss_profile_free(p);
}
END_TEST

START_TEST(files)
{
    char path[] = "/tmp/ss-profile-XXXXXX";
    ss_profile *p;
    ss_err e;
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, good, sizeof good - 1), sizeof good - 1);
    close(fd);
    ck_assert_int_eq(ss_profile_open(&p, path, &e), SS_OK);
    ck_assert_uint_eq(p->n, 2);
    ss_profile_free(p);
    unlink(path);
    ck_assert_int_eq(ss_profile_open(&p, path, &e), SS_EIO);
    ck_assert_ptr_null(p);
}
END_TEST

START_TEST(allocation_fails)
{
    fail_alloc_cjson();
    for (int forever = 0; forever < 2; forever++)
        for (long n = 1;; n++) {
            ss_profile *p = NULL;
            char *text = NULL;
            fail_alloc_from(n, forever);
            int rc = ss_profile_parse(&p, good, sizeof good - 1, "x", NULL);
            if (!rc)
                rc = ss_profile_print(p, &text, NULL);
            bool failed = fail_alloc_done();
            ck_assert(!rc == !!text);
            ss_free(text);
            ss_profile_free(p);
            ck_assert_uint_eq(ss_mem_used(), 0);
            if (!failed) {
                ck_assert_int_eq(rc, SS_OK);
                ck_assert_int_gt(n, 100);
                break;
            }
            ck_assert_int_eq(rc, SS_ENOMEM);
        }
}
END_TEST

UNIT_MAIN("profile", read_and_written, refusals, questions, files, allocation_fails)

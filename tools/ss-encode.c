#include <string.h>

#include "energy.h"
#include "runner.h"

static const char *model, *from, *until, *dtype = "auto", *codec, *arith = "f32";
static int batch = 1;
static bool follow;

static const tool_option options[] = {
    {"model", 'm', OPT_STRING, &model, 0, 0, "FILE", "the model (required)", NULL},
    {"until", 0, OPT_STRING, &until, 0, 0, "CUT", "input, 0 to 8, embedding, or auto: as stamped (required)",
     NULL},
    {"from", 0, OPT_STRING, &from, 0, 0, "CUT", "where all records are cut, whatever their stamp", NULL},
    {"arith", 0, OPT_CHOICE, &arith, 0, 0, "f32|f16|int8", "arithmetic; f16: weights; int8: calibrated",
     NULL},
    {"dtype", 0, OPT_CHOICE, &dtype, 0, 0, "auto|f32|f16|i8",
     "of the payloads written; auto: u8 at a cut of int8, else f32", NULL},
    {"codec", 0, OPT_STRING, &codec, 0, 0, "NAME",
     "pack what is sent, as b16i8 (see ss-model info) or f32, f16, i8", NULL},
    {"batch", 0, OPT_INT, &batch, 1, 256, "N", "run up to N records together, never waiting for more", NULL},
    {"follow", 0, OPT_FLAG, &follow, 0, 0, NULL, "take up the model anew when its file is replaced", NULL},
    ENERGY_OPTIONS,
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-encode", "[FILE]",
                                     "Run windows through the first part of the network.",
                                     TAKES_OUTPUT | TAKES_STREAM | TAKES_THREADS, options};

static int cut_of(const char *what, const char *text)
{
    int cut = ss_cut_parse(text);
    if (cut < 0)
        tool_usage("--%s: found '%s', expected input, 0 to 8%s embedding%s", what, text,
                   !strcmp(what, "until") ? "," : " or", !strcmp(what, "until") ? " or auto" : "");
    return cut;
}

int main(int argc, char **argv)
{
    int first = tool_start(&program, argc, argv);
    if (!model)
        tool_usage("no model: name it with --model");
    if (!until)
        tool_usage("no cut: name it with --until");
    if (argc - first > 1)
        tool_usage("found %d operands, expected one file at most", argc - first);
    runner_settings s = {.model = model,
                         .follow = follow,
                         .arith = arith,
                         .dtype = dtype,
                         .batch = batch,
                         .from = from ? cut_of("from", from) : RUNNER_AUTO,
                         .until = strcmp(until, "auto") ? cut_of("until", until) : RUNNER_AUTO,
                         .work = SS_ATTR_T_ENCODE,
                         .wait = SS_ATTR_W_ENCODE};
    if (s.from != RUNNER_AUTO && s.until != RUNNER_AUTO && s.from > s.until)
        tool_usage("--from=%s is behind --until=%s", from, until);
    if (codec && strcmp(dtype, "auto"))
        tool_usage("--codec and --dtype exclude each other");
    if (codec)
        s.codec = runner_codec_option(codec, &s.dtype);
    ss_err e = {0};
    int rc = energy_begin(&e);
    if (rc == SS_OK)
        rc = runner_run(&s, argv[first], &e);
    energy_end();
    return tool_finish(rc, &e);
}

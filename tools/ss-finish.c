#include "runner.h"

static const char *model, *from, *dtype = "f32", *arith = "f32";
static int batch = 1;
static bool follow;

static const tool_option options[] = {
    {"model", 'm', OPT_STRING, &model, 0, 0, "FILE", "the model (required)", NULL},
    {"from", 0, OPT_STRING, &from, 0, 0, "CUT", "where all records are cut, whatever their stamp", NULL},
    {"arith", 0, OPT_CHOICE, &arith, 0, 0, "f32|f16|int8", "arithmetic; f16: weights; int8: calibrated",
     NULL},
    {"dtype", 0, OPT_CHOICE, &dtype, 0, 0, "f32|f16|i8", "of the payloads written", NULL},
    {"batch", 0, OPT_INT, &batch, 1, 256, "N", "run up to N records together, never waiting for more", NULL},
    {"follow", 0, OPT_FLAG, &follow, 0, 0, NULL, "take up the model anew when its file is replaced", NULL},
    {NULL, 0, OPT_FLAG, NULL, 0, 0, NULL, NULL, NULL}};

static const tool_program program = {"ss-finish", "[FILE]",
                                     "Run records from where they are cut to the embedding.",
                                     TAKES_OUTPUT | TAKES_STREAM | TAKES_THREADS, options};

int main(int argc, char **argv)
{
    int first = tool_start(&program, argc, argv);
    if (!model)
        tool_usage("no model: name it with --model");
    if (argc - first > 1)
        tool_usage("found %d operands, expected one file at most", argc - first);
    runner_settings s = {.model = model,
                         .follow = follow,
                         .arith = arith,
                         .dtype = dtype,
                         .batch = batch,
                         .from = from ? ss_cut_parse(from) : RUNNER_AUTO,
                         .until = SS_CUT_EMBEDDING,
                         .work = SS_ATTR_T_FINISH,
                         .wait = SS_ATTR_W_FINISH};
    if (from && s.from < 0)
        tool_usage("--from: found '%s', expected input, 0 to 8 or embedding", from);
    ss_err e = {0};
    int rc = runner_run(&s, argv[first], &e);
    return tool_finish(rc, &e);
}

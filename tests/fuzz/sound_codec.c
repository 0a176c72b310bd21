/* The decoders of sound and features. The first bytes say which, how many samples or values, whether it follows. */
#include <math.h>

#include "audio/sound_codec.h"
#include "base/mem.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float x[64 * 96];
    ss_err e = {0};
    if (size < 4)
        return 0;
    uint32_t n = data[2] | (uint32_t)data[3] << 8;
    if (data[0] == SS_LOGMEL_U8) {
        size_t bands = data[1] % 65, frames = n % 97;
        int rc = ss_logmel_unpack(data + 4, size - 4, bands, frames, x, &e);
        PROMISE(!rc || (rc == SS_EDAMAGED && *e.text));
        for (size_t i = 0; !rc && i < bands * frames; i++)
            PROMISE(isfinite(x[i]));
    } else {
        ss_sound_decoder *d;
        const float *out;
        PROMISE(ss_sound_decoder_open(&d, &e) == SS_OK);
        for (int again = 0; again < 2; again++) { /* a state that has seen damage decodes on */
            int rc = ss_sound_decode(d, data[0], data + 4, size - 4, n, again || data[1] & 1, &out, &e);
            PROMISE(!rc || ((rc == SS_EDAMAGED || rc == SS_EUNFIT || rc == SS_ENOTSUP) && *e.text));
            volatile float sum = 0;
            for (uint32_t i = 0; !rc && i < n; i++)
                sum = sum + out[i];
        }
        ss_sound_decoder_close(&d);
    }
    PROMISE(ss_mem_used() == 0);
    return 0;
}

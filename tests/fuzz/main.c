/*
 * For a target that was not built with libFuzzer: replay the files named, and those in the folders named,
 * each whole and (up to 4 KiB) cut off at every place.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long replayed;

/* In a block of its own size, so that a sanitizer sees a read past its end. */
static void one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static int replay(const char *path)
{
    static uint8_t data[16 << 20];
    char name[4096];
    DIR *d = opendir(path);
    if (d) {
        for (struct dirent *f; (f = readdir(d));)
            if (*f->d_name != '.') {
                snprintf(name, sizeof name, "%s/%s", path, f->d_name);
                if (!replay(name))
                    return 0;
            }
        closedir(d);
        return 1;
    }
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 0;
    }
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    for (size_t k = n <= 4096 ? 0 : n; k <= n; k++)
        one(data, k);
    replayed++;
    return 1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!replay(argv[i]))
            return EXIT_FAILURE;
    printf("%ld files\n", replayed);
    return replayed ? EXIT_SUCCESS : EXIT_FAILURE;
}

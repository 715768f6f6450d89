/* replay.c - runs a fuzzer without libFuzzer, on files with one input per line in hexadecimal digits. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int main(int argc, char **argv) {
    char line[1024];
    uint8_t bytes[sizeof line / 2];
    unsigned inputs = 0;
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (file == NULL) { return 2; }
        while (fgets(line, sizeof line, file) != NULL) {
            size_t count = 0;
            for (const char *at = line; sscanf(at, "%2hhx", &bytes[count]) == 1; at += 2) { count++; }
            LLVMFuzzerTestOneInput(bytes, count);
            inputs++;
        }
        fclose(file);
    }
    printf("%u inputs\n", inputs);
    return inputs == 0;
}

/* dispatch_test.c - runs dispatch.c on simulated CPUs.
 *
 * Each line of input describes a CPU: the 12 letters of its vendor, ECX of CPUID leaf 1, EBX and ECX of leaf 7, and
 * XCR0, in hexadecimal; "-" stands for a leaf that the CPU does not have, or for an XGETBV that it does not support.
 * For each line, the program prints which kernels the CPU can run, and whether it prefers IFMA and streaming stores. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simd/dispatch.h"

/* The tables that dispatch.c selects from. This program calls none of their kernels. */
const fk_kernels fk_kernels_scalar = {.isa = "scalar"};
#if defined(__x86_64__)
const fk_kernels fk_kernels_avx2 = {.isa = "avx2"};
const fk_kernels fk_kernels_avx512 = {.isa = "avx512"};
const fk_kernels fk_kernels_avx512ifma = {.isa = "avx512ifma"};
#elif defined(__aarch64__)
const fk_kernels fk_kernels_neon = {.isa = "neon"};
#endif

static char maker[13], leaf1_ecx[17], leaf7_ebx[17], leaf7_ecx[17], xcr0[17];

/* Intel Software Developer's Manual, volume 2A, "CPUID": leaf 0 contains the name in EBX, EDX, ECX. */
static int answer_maker(uint32_t registers[4]) {
    if (strcmp(maker, "-") == 0) { return 0; }
    memcpy(&registers[1], maker, 4);
    memcpy(&registers[3], maker + 4, 4);
    memcpy(&registers[2], maker + 8, 4);
    return 1;
}

enum { EBX = 1, ECX = 2 };

/* Registers that dispatch.c must not read contain the complement. */
static int answer(const char *hexadecimal, int which, uint32_t registers[4]) {
    if (strcmp(hexadecimal, "-") == 0) { return 0; }
    const uint32_t value = (uint32_t)strtoul(hexadecimal, NULL, 16);
    for (int i = 0; i < 4; i++) { registers[i] = i == which ? value : ~value; }
    return 1;
}

static int answer_leaf7(uint32_t registers[4]) {
    uint32_t ecx[4];
    if (!answer(leaf7_ebx, EBX, registers) || !answer(leaf7_ecx, ECX, ecx)) { return 0; }
    registers[ECX] = ecx[ECX];
    return 1;
}

static int simulated_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]) {
    if (leaf == 0) { return answer_maker(registers); }
    if (leaf == 1) { return answer(leaf1_ecx, ECX, registers); }
    if (leaf == 7 && subleaf == 0) { return answer_leaf7(registers); }
    fprintf(stderr, "dispatch_test: CPUID leaf %" PRIu32 ", subleaf %" PRIu32 " was not simulated\n", leaf, subleaf);
    exit(1);
}

static uint64_t simulated_xgetbv(void) {
    if (strcmp(xcr0, "-") == 0) {
        fprintf(stderr, "dispatch_test: XGETBV on a CPU without it: the real one would raise #UD\n");
        exit(1);
    }
    return strtoull(xcr0, NULL, 16);
}

int main(void) {
    const fk_cpu cpu = {simulated_cpuid, simulated_xgetbv};
    while (scanf("%12s %16s %16s %16s %16s", maker, leaf1_ecx, leaf7_ebx, leaf7_ecx, xcr0) == 5) {
        printf("avx2=%d avx512=%d avx512ifma=%d gain=%d streaming=%d\n", fk_cpu_runs_avx2(&cpu),
               fk_cpu_runs_avx512(&cpu), fk_cpu_runs_avx512ifma(&cpu), fk_cpu_prefers_ifma(&cpu),
               fk_cpu_prefers_streaming(&cpu));
    }
    return 0;
}

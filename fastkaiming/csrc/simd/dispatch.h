/* dispatch.h - which kernels this machine can run, and which ones are in use. */
#ifndef FASTKAIMING_DISPATCH_H
#define FASTKAIMING_DISPATCH_H

#include <stdint.h>

#include "simd/kernels.h"

/* How a CPU is asked for its features: replaceable, so that tests can be any CPU. */
typedef struct {
    /* Fills in eax, ebx, ecx, edx; returns 0 if there is no such leaf. */
    int (*cpuid)(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);
    /* Returns XCR0; called only where CPUID has OSXSAVE set. */
    uint64_t (*xgetbv)(void);
} fk_cpu;

int fk_cpu_runs_avx2(const fk_cpu *cpu);
int fk_cpu_runs_avx512(const fk_cpu *cpu);
int fk_cpu_runs_avx512ifma(const fk_cpu *cpu);
int fk_cpu_prefers_ifma(const fk_cpu *cpu);
int fk_cpu_prefers_streaming(const fk_cpu *cpu);

/* Do fills that no cache would hold run faster by stores past the caches here, even on few threads? */
int fk_prefers_streaming(void);

/* The kernels in use, chosen on first need. */
const fk_kernels *fk_selected(void);

#endif

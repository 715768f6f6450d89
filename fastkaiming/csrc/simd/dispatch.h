/* dispatch.h - which kernels this machine can run, and which are selected. */
#ifndef FASTKAIMING_DISPATCH_H
#define FASTKAIMING_DISPATCH_H

#include <stdint.h>

#include "simd/kernels.h"

/* How to query the features of a CPU. Tests replace these functions to simulate other CPUs. */
typedef struct {
    /* sets eax, ebx, ecx and edx; returns 0 if the leaf does not exist */
    int (*cpuid)(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);
    /* returns XCR0; called only if CPUID reports OSXSAVE */
    uint64_t (*xgetbv)(void);
} fk_cpu;

int fk_cpu_runs_avx2(const fk_cpu *cpu);
int fk_cpu_runs_avx512(const fk_cpu *cpu);
int fk_cpu_runs_avx512ifma(const fk_cpu *cpu);
int fk_cpu_prefers_ifma(const fk_cpu *cpu);
int fk_cpu_prefers_streaming(const fk_cpu *cpu);

/* Return whether fills that exceed the caches are faster with streaming stores on this machine, even on few threads. */
int fk_prefers_streaming(void);

/* Return the selected kernels. The first call selects the fastest. */
const fk_kernels *fk_selected(void);

#endif

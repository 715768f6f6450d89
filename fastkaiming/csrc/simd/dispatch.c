/* dispatch.c - selects kernels. A kernel can run if the CPU has its instructions (CPUID) and the operating system saves
 * its registers (XCR0). */
#include "simd/dispatch.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__)
#if defined(__AVX__)
#error "compile dispatch.c for the baseline: code for AVX could crash on a CPU without it before dispatch.c has checked"
#endif
#include <cpuid.h>

static int machine_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
    return __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]);
}

static uint64_t machine_xgetbv(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static const fk_cpu this_machine = {machine_cpuid, machine_xgetbv};

/* Intel Software Developer's Manual, volume 1, sections 14.3 (AVX), 14.4 (F16C), 14.5 (FMA), 14.7 (AVX2) and
 * 15.2 (AVX-512); volume 2A, "CPUID", leaf 7 (AVX512_IFMA, AVX512_VBMI2). */
enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_AVX = 1 << 28,
    LEAF1_ECX_F16C = 1 << 29,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512IFMA = 1 << 21,
    LEAF7_EBX_AVX512BW = 1 << 30,
    LEAF7_ECX_AVX512VBMI2 = 1 << 6,
    XCR0_XMM_YMM = 0x06,
    XCR0_OPMASK_ZMM = 0xE0,
};
static const uint32_t LEAF7_EBX_AVX512VL = UINT32_C(1) << 31;

static int has(uint32_t bits, uint32_t wanted) { return (bits & wanted) == wanted; }

int fk_cpu_runs_avx2(const fk_cpu *cpu) {
    uint32_t leaf1[4], leaf7[4];
    const uint32_t wanted = LEAF1_ECX_FMA | LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_F16C;
    return cpu->cpuid(1, 0, leaf1) && has(leaf1[2], wanted) && (cpu->xgetbv() & XCR0_XMM_YMM) == XCR0_XMM_YMM &&
           cpu->cpuid(7, 0, leaf7) && has(leaf7[1], LEAF7_EBX_AVX2);
}

int fk_cpu_runs_avx512(const fk_cpu *cpu) {
    uint32_t leaf7[4];
    return fk_cpu_runs_avx2(cpu) && (cpu->xgetbv() & XCR0_OPMASK_ZMM) == XCR0_OPMASK_ZMM && cpu->cpuid(7, 0, leaf7) &&
           has(leaf7[1], LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL);
}

int fk_cpu_runs_avx512ifma(const fk_cpu *cpu) {
    uint32_t leaf7[4];
    return fk_cpu_runs_avx512(cpu) && cpu->cpuid(7, 0, leaf7) && has(leaf7[1], LEAF7_EBX_AVX512IFMA) &&
           has(leaf7[2], LEAF7_ECX_AVX512VBMI2);
}

static int is_amd(const fk_cpu *cpu) {
    uint32_t leaf0[4];
    return cpu->cpuid(0, 0, leaf0) && leaf0[1] == signature_AMD_ebx && leaf0[2] == signature_AMD_ecx &&
           leaf0[3] == signature_AMD_edx;
}

/* The IFMA kernels multiply where the other kernels shift. Intel's cores have more ports for 512-bit multiplications
 * than for 512-bit shifts; AMD's cores do not (docs/experiments.md). */
int fk_cpu_prefers_ifma(const fk_cpu *cpu) { return fk_cpu_runs_avx512ifma(cpu) && !is_amd(cpu); }

/* On a few cores of an AMD CPU, plain stores of full lines are as fast as streaming stores, although each line is first
 * read from memory, and they avoid the copy through a buffer (measured on Zen 4, docs/experiments.md). */
int fk_cpu_prefers_streaming(const fk_cpu *cpu) { return !is_amd(cpu); }

static int prefers_ifma(void) { return fk_cpu_prefers_ifma(&this_machine); }
static int runs_but_does_not_prefer_ifma(void) { return fk_cpu_runs_avx512ifma(&this_machine) && !prefers_ifma(); }
static int runs_avx512(void) { return fk_cpu_runs_avx512(&this_machine); }
static int runs_avx2(void) { return fk_cpu_runs_avx2(&this_machine); }

/* CPUID is executed once only, because it is slow under a hypervisor. */
int fk_prefers_streaming(void) {
    enum { UNKNOWN, NO, YES };
    static atomic_int known;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == UNKNOWN) {
        answer = fk_cpu_prefers_streaming(&this_machine) ? YES : NO;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == YES;
}
#else
int fk_prefers_streaming(void) { return 0; }
#endif

static int runs_always(void) { return 1; }

/* Fastest first. If a CPU can run the IFMA kernels but is not faster with them, they come second. */
static const struct {
    const fk_kernels *kernels;
    int (*runs_here)(void);
} compiled_in[] = {
#if defined(__x86_64__)
    {&fk_kernels_avx512ifma, prefers_ifma},
    {&fk_kernels_avx512, runs_avx512},
    {&fk_kernels_avx512ifma, runs_but_does_not_prefer_ifma},
    {&fk_kernels_avx2, runs_avx2},
#elif defined(__aarch64__)
    {&fk_kernels_neon, runs_always}, /* Advanced SIMD is part of the base architecture */
#endif
    {&fk_kernels_scalar, runs_always},
};
enum { COMPILED_IN = sizeof compiled_in / sizeof compiled_in[0] };

static _Atomic(const fk_kernels *) selected;

fk_status fk_select_isa(const char *name) {
    fk_status status = FK_ISA_UNKNOWN;
    for (int i = 0; i < COMPILED_IN; i++) {
        if (name != NULL && strcmp(name, compiled_in[i].kernels->isa) != 0) { continue; }
        if (compiled_in[i].runs_here()) {
            atomic_store(&selected, compiled_in[i].kernels);
            return FK_OK;
        }
        status = FK_ISA_UNSUPPORTED;
    }
    return status;
}

const fk_kernels *fk_selected(void) {
    if (atomic_load(&selected) == NULL) { fk_select_isa(NULL); }
    return atomic_load(&selected);
}

const char *fk_selected_isa(void) { return fk_selected()->isa; }

const char *fk_available_isa(int i) {
    for (int k = 0; k < COMPILED_IN; k++) {
        if (compiled_in[k].runs_here() && i-- == 0) { return compiled_in[k].kernels->isa; }
    }
    return NULL;
}

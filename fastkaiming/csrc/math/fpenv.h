/* fpenv.h - enters and leaves the floating-point environment that stream v1 is defined in: round to nearest, without
 * flushing subnormal numbers to zero.
 *
 * C's fesetenv does the same, but on x86-64 it also saves and reloads the x87 unit, which is not used here, and takes
 * ten times as long as setting the one register of SSE and AVX: docs/experiments.md. */
#ifndef FASTKAIMING_FPENV_H
#define FASTKAIMING_FPENV_H

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef unsigned fk_fpenv;

/* Intel Software Developer's Manual, volume 1, section 10.2.3: all exceptions masked, all other bits clear. */
enum { FK_MXCSR_DEFAULT = 0x1F80 };

static inline fk_fpenv fk_enter_default_fpenv(void) {
    const fk_fpenv before = _mm_getcsr();
    _mm_setcsr(FK_MXCSR_DEFAULT);
    return before;
}

static inline void fk_leave_default_fpenv(const fk_fpenv *before) { _mm_setcsr(*before); }

#else
#include <fenv.h>

typedef fenv_t fk_fpenv;

static inline fk_fpenv fk_enter_default_fpenv(void) {
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}

static inline void fk_leave_default_fpenv(const fk_fpenv *before) { fesetenv(before); }
#endif

#endif

/* target_begin.h - compiles the following functions, up to target_end.h, for the instruction set FK_TARGET.
 *
 * The target is set in the source rather than in the build, so that one set of flags compiles every file. */
#define FK_PRAGMA_(text) _Pragma(#text)
#define FK_PRAGMA(text) FK_PRAGMA_(text)

#if defined(__clang__)
FK_PRAGMA(clang attribute push(__attribute__((target(FK_TARGET))), apply_to = function))
/* For functions that spill vectors. Without a frame pointer, clang aligns spilled vectors of 32 or 64 bytes to 16 bytes
 * only, and a kernel takes up to three times as long if one of them crosses a page (docs/experiments.md, "Stack frame
 * alignment"). With this attribute, clang keeps a frame pointer and aligns the frame to the widest vector. gcc always
 * aligns such frames. */
#define FK_ALIGNED_FRAME __attribute__((force_align_arg_pointer))
#else
#pragma GCC push_options
FK_PRAGMA(GCC target(FK_TARGET))
/* Schedule instructions before register allocation too: in source order, the kernels spill more and wait longer.
 * cflags.rsp selects the algorithm (docs/experiments.md). */
#pragma GCC optimize("schedule-insns", "sched-pressure")
#endif

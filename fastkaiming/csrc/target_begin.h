/* target_begin.h - compile what follows for the instruction set FK_TARGET, up to target_end.h.
 *
 * In the source rather than in the build, so that one set of flags builds every file. */
#define FK_PRAGMA_(text) _Pragma(#text)
#define FK_PRAGMA(text) FK_PRAGMA_(text)

#if defined(__clang__)
FK_PRAGMA(clang attribute push(__attribute__((target(FK_TARGET))), apply_to = function))
#else
#pragma GCC push_options
FK_PRAGMA(GCC target(FK_TARGET))
#endif

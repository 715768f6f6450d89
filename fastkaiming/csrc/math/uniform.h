/* uniform.h - transforms a word of uniform bits into a uniform deviate.
 *
 * u = (2k + 1) 2^-24 in single precision and (2k + 1) 2^-53 in double precision, where k is the upper 24 or 53 bits of
 * the word as a signed number. u is exact, symmetric about 0, never 0, and never an end of (-1, 1). docs/stream-v1.md,
 * section 4, is the normative text. */
#ifndef FASTKAIMING_UNIFORM_H
#define FASTKAIMING_UNIFORM_H

#include "fill.h"

/* Return whether all elements are fl(u scale). This requires that the center is 0 and that no value has to be clamped
 * to [low, high]. It is sufficient to check the value farthest from 0, fl((1 - 2^-24) scale). Scales below 2^-95 are
 * excluded, because the step of fk_uniform_symmetric_f32 would not be exact. */
FK_INLINE int fk_is_symmetric_uniform_f32(const fk_params *params) {
    const float scale = (float)params->scale, farthest = scale * 0x1.fffffep-1f;
    return params->center == 0 && params->high >= farthest && params->low <= -farthest && scale >= 0x1p-95f;
}

/* The same in double precision, for which the step is exact from 2^-959 on. */
FK_INLINE int fk_is_symmetric_uniform_f64(const fk_params *params) {
    const double scale = params->scale, farthest = scale * 0x1.fffffffffffffp-1;
    return params->center == 0 && params->high >= farthest && params->low <= -farthest && scale >= 0x1p-959;
}

/* fl(u scale), computed from (2k + 1) 2^7: leaving 2k + 1 at its place in the word saves an instruction if AND and OR
 * are a single instruction.
 *
 * Range: all words; parameters for which fk_is_symmetric_uniform_f32 returns 1. Max error: half an ulp. */
FK_INLINE v_f32 fk_uniform_symmetric_f32(const fk_params *params, v_u32 word) {
    const v_u32 odd = vw_and_or(word, vw_set1(0xFFFFFF00), vw_set1(0x80));
    return vf_mul(vf_from_i32(odd), vf_set1((float)params->scale * 0x1p-31f));
}

/* The same in double precision, from (2k + 1) 2^10. */
FK_INLINE v_f64 fk_uniform_symmetric_f64(const fk_params *params, v_u64 word) {
    const v_u64 odd = vq_and_or(word, vq_set1(~UINT64_C(0x7FF)), vq_set1(0x400));
    return vd_mul(vd_from_i64(odd), vd_set1(params->scale * 0x1p-63));
}

/* fl(u scale + center), clamped to [low, high].
 *
 * Range: all words; scale 0 or at least 2^-102, so that the step is exact. Max error: half an ulp of u scale + center,
 * because it is rounded once. */
FK_INLINE v_f32 fk_uniform_f32(const fk_params *params, v_u32 word) {
    const v_f32 odd = vf_from_i32(vw_or(vw_sar(word, 7), vw_set1(1)));
    const v_f32 value = vf_fma(odd, vf_set1((float)params->scale * 0x1p-24f), vf_set1((float)params->center));
    return vf_max(vf_min(value, vf_set1((float)params->high)), vf_set1((float)params->low));
}

/* The same in double precision, for scale 0 or at least 2^-969. */
FK_INLINE v_f64 fk_uniform_f64(const fk_params *params, v_u64 word) {
    const v_f64 odd = vd_from_i64(vq_or(vq_sar(word, 10), vq_set1(1)));
    const v_f64 value = vd_fma(odd, vd_set1(params->scale * 0x1p-53), vd_set1(params->center));
    return vd_max(vd_min(value, vd_set1(params->high)), vd_set1(params->low));
}

#endif

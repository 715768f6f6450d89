/* uniform.h - a word of uniform bits to a uniform deviate.
 *
 * u = (2k + 1) 2^-24 in single precision, (2k + 1) 2^-53 in double, with k the word's upper 24 or 53 bits read as a
 * signed number: exact, symmetric about 0, never 0, never an end of (-1, 1). docs/stream-v1.md, section 4, is the
 * normative text.
 */
#ifndef FASTKAIMING_UNIFORM_H
#define FASTKAIMING_UNIFORM_H

#include "fill.h"

/* 2k + 1, exactly. Range: all words. Result: odd, |result| < 2^24. */
FK_INLINE v_f32 fk_odd_f32(v_u32 word) { return vf_from_i32(vw_or(vw_sar(word, 7), vw_set1(1))); }

/* 2k + 1, exactly. Range: all words. Result: odd, |result| < 2^53. */
FK_INLINE v_f64 fk_odd_f64(v_u64 word) { return vd_from_i64(vq_or(vq_sar(word, 10), vq_set1(1))); }

/* fl(u scale + center), kept from low to high. Where center is 0, the last word gives the value that is farthest from
 * 0, fl((1 - 2^-24) scale): if that needs no keeping inside, no value does.
 *
 * Range: all words; scale 0 or at least 2^-102, so that the step below is exact. Max error: half an ulp of
 * u scale + center, as that is rounded once. */
FK_INLINE v_f32 fk_uniform_f32(const fk_params *params, v_u32 word) {
    const v_f32 step = vf_set1((float)params->scale * 0x1p-24f);
    const v_f32 value = vf_fma(fk_odd_f32(word), step, vf_set1((float)params->center));
    const float farthest = (float)params->scale * 0x1.fffffep-1f;
    if ((params->center == 0) & (params->high >= farthest) & (params->low <= -farthest)) { return value; }
    return vf_max(vf_min(value, vf_set1((float)params->high)), vf_set1((float)params->low));
}

/* The same in double precision; scale 0 or at least 2^-969. */
FK_INLINE v_f64 fk_uniform_f64(const fk_params *params, v_u64 word) {
    const v_f64 step = vd_set1(params->scale * 0x1p-53);
    const v_f64 value = vd_fma(fk_odd_f64(word), step, vd_set1(params->center));
    const double farthest = params->scale * 0x1.fffffffffffffp-1;
    if ((params->center == 0) & (params->high >= farthest) & (params->low <= -farthest)) { return value; }
    return vd_max(vd_min(value, vd_set1(params->high)), vd_set1(params->low));
}

#endif

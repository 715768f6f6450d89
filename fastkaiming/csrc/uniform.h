/* uniform.h - a word of uniform bits to a uniform deviate.
 *
 * u = (2k + 1) 2^-24 in single precision, (2k + 1) 2^-53 in double, with k the word's upper 24 or 53 bits read as a
 * signed number: exact, symmetric about 0, never 0, never an end of (-1, 1). docs/stream-v1.md, section 4, is the
 * normative text.
 */
#ifndef FASTKAIMING_UNIFORM_H
#define FASTKAIMING_UNIFORM_H

/* 2k + 1, exactly. Range: all words. Result: odd, |result| < 2^24. */
FK_INLINE v_f32 fk_odd_f32(v_u32 word) { return vf_from_i32(vw_or(vw_sar(word, 7), vw_set1(1))); }

/* 2k + 1, exactly. Range: all words. Result: odd, |result| < 2^53. */
FK_INLINE v_f64 fk_odd_f64(v_u64 word) { return vd_from_i64(vq_or(vq_sar(word, 10), vq_set1(1))); }

#endif

/* vec_composed.h - definitions of some vector operations by other ones, for instruction sets that have no instruction
 * for them. vec_avx512ifma.h defines them by single instructions. */
#ifndef FASTKAIMING_VEC_COMPOSED_H
#define FASTKAIMING_VEC_COMPOSED_H

/* a ^ b and a ^ b ^ c in the low halves. The high halves are such that vq_mul32_high can multiply the result. */
static inline v_u64 vq_xor_factor(v_u64 a, v_u64 b) { return vq_xor(a, b); }
static inline v_u64 vq_xor3_factor(v_u64 a, v_u64 b, v_u64 c) { return vq_xor3(a, b, c); }

/* The high half of product = vq_mul32(a, vq_set1(m)), in the low half. Range: `a` is a result of vq_xor_factor or
 * vq_xor3_factor. */
static inline v_u64 vq_mul32_high(v_u64 product, v_u64 a, uint32_t m) {
    (void)a, (void)m;
    return vq_high32(product);
}

/* a << n | bits. Range: n and bits are constants, 0 < n < 32 or 64, bits < 2^n. */
#define vw_shl_or(a, n, bits) vw_or(vw_shl(a, n), vw_set1(bits))
#define vq_shl_or(a, n, bits) vq_or(vq_shl(a, n), vq_set1(bits))

#endif

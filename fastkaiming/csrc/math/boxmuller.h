/* boxmuller.h - transforms two words of uniform bits into two independent normal deviates.
 *
 * Source: Box & Muller, "A note on the generation of random normal deviates", Ann. Math. Statist. 29 (1958), eq. (1):
 * (rho cos phi, rho sin phi) with rho = sqrt(-2 ln v). docs/stream-v1.md, sections 5 and 6, is the normative text;
 * tests/generators/minimax.py prints the coefficients. Polynomials are evaluated by Estrin's scheme, because its
 * dependency chains are short. */
#ifndef FASTKAIMING_BOXMULLER_H
#define FASTKAIMING_BOXMULLER_H

/* Single precision.
 *
 * -2 ln of 2^exponent (1 + g/2), computed as the sum of -2 ln 2 * exponent and -g + g^2 Q(g).
 *
 * Range: exponent <= 0 and g in [-1, 0]. There both terms have the same sign, so no cancellation occurs. */
FK_INLINE v_f32 fk_minus_2_ln_f32(v_f32 exponent, v_f32 g) {
    const v_f32 g2 = vf_mul(g, g), g4 = vf_mul(g2, g2);
    const v_f32 q01 = vf_fma(g, vf_set1(-0x1.55a384p-4f), vf_set1(0x1.fffecp-3f));
    const v_f32 q23 = vf_fma(g, vf_set1(-0x1.0df6b8p-6f), vf_set1(0x1.f313e8p-6f));
    const v_f32 q45 = vf_fma(g, vf_set1(-0x1.354f94p-6f), vf_set1(-0x1.72276ap-8f));
    const v_f32 q67 = vf_fma(g, vf_set1(-0x1.6a0efp-8f), vf_set1(-0x1.a3989ap-7f));
    const v_f32 q = vf_fma(g4, vf_fma(g2, q67, q45), vf_fma(g2, q23, q01));
    return vf_fma(g2, q, vf_fms(exponent, vf_set1(-0x1.62e43p+0f), g));
}

/* Radius: v = a + ((b mod 256) + 1/2) / 256 in units of 2^-32 has 40 bits. Read as a signed number, the word a is v
 * below one half and v - 1 above it, so y = 2v or y = 2(v - 1) keeps its relative precision at both ends of (0, 1). The
 * significand of v, in [1/2, 1), is 1 + g/2.
 *
 * Range: all words. Result: [2^-20, 7.54]. Max error: 2 ulp of the exact transform of the words. */
FK_INLINE v_f32 fk_radius_f32(v_u32 a, v_u32 b) {
    const v_f32 fraction = vf_sub(vf_from_bits(vw_and_or(b, vw_set1(0xFF), vw_set1(0x37800000))),
                                  vf_set1(0x1.fffffep-17f)); /* ((b mod 256) + 1/2) 2^-39, exactly */
    const v_f32 y = vf_fma(vf_from_i32(a), vf_set1(0x1p-31f), fraction);
    const v_f32 g = vf_by_sign(y, y, vf_sub(vf_significand(y), vf_set1(2.0f)));
    return vf_sqrt(fk_minus_2_ln_f32(vf_exponent_or_0(y), g));
}

/* Angle: t = int32((b << 2) | 2), w = t 2^-31, phi = w pi/4 in (-pi/4, pi/4).
 *
 * Range: all words. Results: cos in [0.707, 1], sin in +-[2^-30.3, 0.707]. Max error: 2 ulp each. */
FK_INLINE void fk_cos_sin_f32(v_u32 b, v_f32 *cosine, v_f32 *sine) {
    const v_f32 w = vf_mul(vf_from_i32(vw_shl_or(b, 2, 2)), vf_set1(0x1p-31f));
    const v_f32 z = vf_mul(w, w), z2 = vf_mul(z, z);

    const v_f32 s = vf_fma(z2, vf_set1(-0x1.2ddcecp-15f), vf_fma(z, vf_set1(0x1.46607ep-9f), vf_set1(-0x1.4abbcp-4f)));
    const v_f32 correction = vf_mul(w, vf_fma(z, s, vf_set1(-0x1.777a5cp-26f)));
    *sine = vf_fma(w, vf_set1(0x1.921fb6p-1f), correction);

    const v_f32 k01 = vf_fma(z, vf_set1(0x1.03c1aep-6f), vf_set1(-0x1.3bd3ccp-2f));
    const v_f32 k23 = vf_fma(z, vf_set1(0x1.d47d6p-19f), vf_set1(-0x1.55b146p-12f));
    *cosine = vf_fma(z, vf_fma(z2, k23, k01), vf_set1(1.0f));
}

/* Bit 30 of b swaps cosine and sine, and bit 31 changes both signs; together they select the octant of the circle.
 *
 * Range: all words. Results: within (-7.55, 7.55), never 0. Max error: the errors of the factors plus half an ulp. */
FK_INLINE void fk_normal_pair_f32(v_u32 a, v_u32 b, v_f32 *even, v_f32 *odd) {
    v_f32 cosine, sine;
    fk_cos_sin_f32(b, &cosine, &sine);
    const v_f32 rho = vf_flip_sign(fk_radius_f32(a, b), b);
    vf_swap_where(vw_bit(b, 30), &cosine, &sine);
    *even = vf_mul(rho, cosine);
    *odd = vf_mul(rho, sine);
}

/* Double precision.
 *
 * v = m 2^exponent with m in [1/2, 1) lies in interval k of 16. With c[k], a number of 9 bits near 1/m,
 *     -2 ln v = -2 ln 2 * exponent + 2 ln c[k] + (-2f + f^2 P(f)),    f = m c[k] - 1,   |f| <= 1/32.
 * c[15] = 1, so that near v = 1 only the exact f = v - 1 remains. The table keeps P short: without it, a polynomial
 * would need 20 terms, or the formula a division. */
static const double fk_half_reciprocal[16] = {
    0x1.fp-1,  0x1.d4p-1, 0x1.bbp-1, 0x1.a4p-1, 0x1.9p-1,  0x1.7dp-1, 0x1.6cp-1, 0x1.5dp-1,
    0x1.4ep-1, 0x1.41p-1, 0x1.35p-1, 0x1.2ap-1, 0x1.1fp-1, 0x1.16p-1, 0x1.0dp-1, 0x1p-1,
};
static const double fk_twice_log_reciprocal[16] = {
    0x1.52a2d265bc5abp+0, 0x1.34e289d9ce1d3p+0, 0x1.18c6e0ff5cf06p+0, 0x1.faf588f78f31fp-1,
    0x1.c8ff7c79a9a22p-1, 0x1.972a341135158p-1, 0x1.686c81e9b14afp-1, 0x1.3d54fa5c1f71p-1,
    0x1.1058bf9ae4ad5p-1, 0x1.cf6354e09c5dcp-2, 0x1.815c0a14357ebp-2, 0x1.371fc201e8f74p-2,
    0x1.d4313d66cb35dp-3, 0x1.51b073f06183fp-3, 0x1.95c830ec8e3ebp-4, 0.0,
};

/* Return -2 ln v, computed from exponent, k and f.
 *
 * Range: exponent <= 0, k < 16 (only its low four bits are used), |f| <= 1/32. */
FK_INLINE v_f64 fk_minus_2_ln_f64(v_f64 exponent, v_u64 k, v_f64 f) {
    const v_f64 logs = vd_fma(exponent, vd_set1(-0x1.62e42fefa39efp+0), vd_lookup16(fk_twice_log_reciprocal, k));
    const v_f64 f2 = vd_mul(f, f), f4 = vd_mul(f2, f2);
    const v_f64 p01 = vd_fma(f, vd_set1(-0x1.55555555554f8p-1), vd_set1(0x1.ffffffffffff3p-1));
    const v_f64 p23 = vd_fma(f, vd_set1(-0x1.9999999b9aa38p-2), vd_set1(0x1.000000006693cp-1));
    const v_f64 p45 = vd_fma(f, vd_set1(-0x1.2492305f7081ap-2), vd_set1(0x1.5555454f0bf2ap-2));
    const v_f64 p67 = vd_fma(f, vd_set1(-0x1.c80579ec3c5eep-3), vd_set1(0x1.0066848444ed3p-2));
    const v_f64 p = vd_fma(f4, vd_fma(f2, p67, p45), vd_fma(f2, p23, p01));
    return vd_fma(f2, p, vd_fma(f, vd_set1(-2.0), logs));
}

/* Radius: w0 is read as a signed number, as in single precision, with y = 2v or y = 2(v - 1) and v = (w0 + 1/2) 2^-64.
 *
 * Range: all words. Result: [2^-32, 9.5]. Max error: 4 ulp of the exact transform of the words. */
FK_INLINE v_f64 fk_radius_f64(v_u64 w0) {
    const v_f64 y = vd_fma(vd_from_i64(w0), vd_set1(0x1p-63), vd_set1(0x1p-64));
    const v_u64 k = vd_interval(w0, y);
    const v_f64 half_c = vd_lookup16(fk_half_reciprocal, k);
    const v_f64 minus_one = vd_set1(-1.0);
    const v_f64 offset = vd_by_sign(y, vd_fma(half_c, vd_set1(2.0), minus_one), minus_one);
    const v_f64 f = vd_fma(vd_by_sign(y, y, vd_significand(y)), half_c, offset);
    return vd_sqrt(fk_minus_2_ln_f64(vd_exponent_or_0(y), k, f));
}

/* Range: all words. Results: cos in [0.707, 1], sin in +-[2^-62.3, 0.707]. Max error: 4 ulp each. */
FK_INLINE void fk_cos_sin_f64(v_u64 w1, v_f64 *cosine, v_f64 *sine) {
    const v_f64 w = vd_mul(vd_from_i64(vq_shl_or(w1, 2, 2)), vd_set1(0x1p-63));
    const v_f64 z = vd_mul(w, w), z2 = vd_mul(z, z), z4 = vd_mul(z2, z2);

    const v_f64 s01 = vd_fma(z, vd_set1(0x1.466bc67758dfap-9), vd_set1(-0x1.4abbce625be47p-4));
    const v_f64 s23 = vd_fma(z, vd_set1(0x1.50783021c73abp-22), vd_set1(-0x1.32d2cce33a55fp-15));
    const v_f64 s45 = vd_fma(z, vd_set1(0x1.e40581d2bb095p-38), vd_set1(-0x1.e300abb1a0516p-30));
    const v_f64 s = vd_fma(z4, s45, vd_fma(z2, s23, s01));
    const v_f64 correction = vd_mul(w, vd_fma(z, s, vd_set1(0x1.1a62633145c07p-55)));
    *sine = vd_fma(w, vd_set1(0x1.921fb54442d18p-1), correction);

    const v_f64 k01 = vd_fma(z, vd_set1(0x1.03c1f081b14eap-6), vd_set1(-0x1.3bd3cc9be45a5p-2));
    const v_f64 k23 = vd_fma(z, vd_set1(0x1.e1f4fbfe6feddp-19), vd_set1(-0x1.55d3c7dcb8acdp-12));
    const v_f64 k45 = vd_fma(z, vd_set1(0x1.f3ef94d7facb1p-34), vd_set1(-0x1.a6ca019aaeeb6p-26));
    *cosine = vd_fma(z, vd_fma(z4, k45, vd_fma(z2, k23, k01)), vd_set1(1.0));
}

/* Range: all words. Results: within (-9.5, 9.5), never 0. Max error: the errors of the factors plus half an ulp. */
FK_INLINE void fk_normal_pair_f64(v_u64 w0, v_u64 w1, v_f64 *even, v_f64 *odd) {
    v_f64 cosine, sine;
    fk_cos_sin_f64(w1, &cosine, &sine);
    const v_f64 rho = vd_flip_sign(fk_radius_f64(w0), w1);
    vd_swap_where(vq_bit(w1, 62), &cosine, &sine);
    *even = vd_mul(rho, cosine);
    *odd = vd_mul(rho, sine);
}

#endif

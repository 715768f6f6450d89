/* quantile.h - transforms a word of uniform bits into a truncated normal deviate by the quantile function.
 *
 * The words divide the probability between the bounds into equal intervals, and each word yields the quantile of the
 * middle of its interval. It is computed from two representations of this probability: t, which is proportional to
 * Phi(z) - 1/2 and precise if z is near 0, and v, the probability of the nearer tail, which is precise in the tails.
 * Therefore no cancellation occurs for any bounds. docs/stream-v1.md, section 7, is the normative text;
 * fastkaiming/distributions/_normal_cdf.py computes the parameters. */
#ifndef FASTKAIMING_QUANTILE_H
#define FASTKAIMING_QUANTILE_H

/* Single precision, with t = 3 (Phi(z) - 1/2). Up to a little more than 2 sigma, z = t + t N(y) / M(y) with y = v -
 * v^2; beyond, z = +-(r + U(r) / V(r)) with r = sqrt(-2 ln v). The quotients are minimax rational functions printed by
 * tests/generators/minimax_quantile.py. They are the smaller terms of the sums, so their rounding errors are small too:
 * |N / M| <= 0.4. */
#define FK_CENTRAL_F32 0x1.7p-6f

/* Return 2 if words of the fill can reach the tails, else 1. v is smallest at the bounds. */
FK_INLINE int fk_regions_f32(const fk_params *params) {
    return params->lower_intercept >= FK_CENTRAL_F32 && params->upper_intercept >= FK_CENTRAL_F32 ? 1 : 2;
}

FK_INLINE v_f32 fk_central_numerator_f32(v_f32 y, v_f32 y2, v_f32 y4) {
    const v_f32 n01 = vf_fma(y, vf_set1(0x1.4fcbeep+7f), vf_set1(0x1.1c900ap+0f));
    const v_f32 n23 = vf_fma(y, vf_set1(-0x1.26dd42p+14f), vf_set1(0x1.2578e2p+11f));
    const v_f32 n45 = vf_fma(y, vf_set1(-0x1.464872p+13f), vf_set1(-0x1.9987fcp+16f));
    return vf_fma(y4, n45, vf_fma(y2, n23, n01));
}

FK_INLINE v_f32 fk_central_denominator_f32(v_f32 y, v_f32 y2, v_f32 y4) {
    const v_f32 m01 = vf_fma(y, vf_set1(0x1.1f0c3ep+8f), vf_set1(1.0f));
    const v_f32 m23 = vf_fma(y, vf_set1(0x1.a34278p+16f), vf_set1(0x1.776aa2p+13f));
    return vf_fma(y4, vf_set1(0x1.59245ep+17f), vf_fma(y2, m23, m01));
}

FK_INLINE v_f32 fk_tail_radius_f32(v_f32 v) {
    const v_f32 twice = vf_mul(v, vf_set1(2.0f));
    return vf_sqrt(fk_minus_2_ln_f32(vf_exponent(twice), vf_sub(vf_significand(twice), vf_set1(2.0f))));
}

/* Range: v in [2^-33, 1/2], and v >= FK_CENTRAL_F32 if regions is 1; t of the same z; `negative` has its top bit set if
 * t < 0. Result: within (-6.4, 6.4).
 *
 * Max error: 4 ulp of the exact transform of the words, as called by fk_truncated_f32. */
FK_INLINE v_f32 fk_quantile_f32(v_f32 t, v_f32 v, v_u32 negative, int regions) {
    const v_f32 y = vf_fnma(v, v, v), y2 = vf_mul(y, y), y4 = vf_mul(y2, y2);
    const v_f32 n = fk_central_numerator_f32(y, y2, y4), m = fk_central_denominator_f32(y, y2, y4);
    if (regions == 1) { return vf_fma(t, vf_div(n, m), t); }

    const v_f32 r = fk_tail_radius_f32(v), r2 = vf_mul(r, r);
    const v_f32 u01 = vf_fma(r, vf_set1(-0x1.672a2ap+1f), vf_set1(-0x1.5e382p+1f));
    const v_f32 u23 = vf_fma(r, vf_set1(-0x1.ec93eep-11f), vf_set1(-0x1.348852p-2f));
    const v_f32 v01 = vf_fma(r, vf_set1(0x1.419294p+1f), vf_set1(1.0f));
    const v_f32 v23 = vf_fma(r, vf_set1(0x1.f2d7ecp-5f), vf_set1(0x1.0848acp+0f));
    const v_f32 tail_sign = vf_sub(v, vf_set1(FK_CENTRAL_F32)); /* negative in the tails */
    const v_f32 numerator = vf_by_sign(tail_sign, vf_fma(r2, u23, u01), n);
    const v_f32 quotient = vf_div(numerator, vf_by_sign(tail_sign, vf_fma(r2, v23, v01), m));
    const v_f32 tail_z = vf_flip_sign(vf_add(r, quotient), negative);
    return vf_by_sign(tail_sign, tail_z, vf_fma(t, quotient, t));
}

FK_INLINE v_f32 fk_value_f32(const fk_params *params, v_f32 z) {
    const v_f32 value = vf_fma(vf_set1((float)params->scale), z, vf_set1((float)params->center));
    return vf_max(vf_min(value, vf_set1((float)params->high)), vf_set1((float)params->low));
}

/* Return t, computed from the distance of the word from the middle word. The slope is the sum of two floats: for some
 * bounds, rounding it to one float would be the largest error of z. */
FK_INLINE v_f32 fk_central_t_f32(const fk_params *params, v_f32 centered) {
    const float slope = (float)params->slope, rest = (float)(params->slope - (double)slope);
    const v_f32 low_part = vf_fma(centered, vf_set1(rest), vf_set1((float)params->intercept));
    return vf_fma(centered, vf_set1(slope), low_part);
}

/* Transform a word into a value of the normal distribution between bounds that are symmetric about its mean.
 *
 * Range: all words; parameters computed by _normal_cdf.py, with the same slope and intercept at both ends, and the
 * result of fk_regions_f32 for them. Result: in [low, high]. Max error: the error of z plus half an ulp for the last
 * rounding. */
FK_INLINE_UNLESS_SCALAR v_f32 fk_truncated_f32(const fk_params *params, v_u32 word, int regions) {
    const v_u32 centered = vw_xor(word, vw_set1(0x80000000u)), distance = vw_xor(word, vw_sar(word, 31));
    const v_f32 t = fk_central_t_f32(params, vf_from_i32(centered));
    const v_f32 v =
        vf_fma(vf_from_i32(distance), vf_set1((float)params->lower_slope), vf_set1((float)params->lower_intercept));
    return fk_value_f32(params, fk_quantile_f32(t, v, centered, regions));
}

/* Double precision: PPND16 of M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution",
 * Applied Statistics 37 (1988), 477-484. There is one column for each of its three regions: if |t| <= 0.425 (here: v >=
 * 0.075), z = t A(x) / B(x) with x = 0.425^2 - t^2; otherwise, with r = sqrt(-ln v), z = A(x) / B(x) with x = r - 1.6,
 * and from r = 5 on with x = r - 5. */
#define FK_CENTRAL_F64 0x1.3333333333333p-4
#define FK_FAR_TAIL_F64 0x1p-36 /* if v is at least this, r is below 5 */

static const double fk_as241_numerator[8][4] = {
    {0x1.b18d91e9eef75p+1, 0x1.6c665fde9526ap+0, 0x1.aa1b1c13ee526p+2},
    {0x1.0a4888b1a436ep+7, 0x1.2857748cab19bp+2, 0x1.5daea6e875003p+2},
    {0x1.ece5d2213c0ccp+10, 0x1.713f71462256ap+2, 0x1.c8ea6461fa445p+0},
    {0x1.ad1d8cd4ee71dp+13, 0x1.d2ecb1a3d02c4p+1, 0x1.2fad9315255cfp-2},
    {0x1.66c3e869b752ap+15, 0x1.453cc085375b2p+0, 0x1.b2b41193b4ee7p-6},
    {0x1.06c1c55b78f2p+16, 0x1.ef2abb9b85c37p-3, 0x1.45c1908425345p-10},
    {0x1.052d26b2e45e4p+15, 0x1.744eb6c45ec67p-6, 0x1.c6ec6cc59e02ap-16},
    {0x1.39a296f7d925ep+11, 0x1.9615ac0b7ace9p-11, 0x1.afb74d693bf93p-23},
};
static const double fk_as241_denominator[8][4] = {
    {0x1p+0, 0x1p+0, 0x1p+0},
    {0x1.5281b386e1ab5p+5, 0x1.06cefbb46a449p+1, 0x1.331d34fc7d77fp-1},
    {0x1.5797efdc8b3f7p+9, 0x1.ad278e6526633p+0, 0x1.186eb183443fbp-3},
    {0x1.512322e75c89fp+12, 0x1.61292f23385c9p-1, 0x1.e76f93215462ap-7},
    {0x1.4b772d5d65266p+14, 0x1.2f5123394f04p-3, 0x1.9c8bc979dc5d7p-11},
    {0x1.3317caa64f4bep+15, 0x1.f207a7eab17bfp-7, 0x1.35c2c496374bfp-16},
    {0x1.c0e457cb1ae76p+14, 0x1.1f18cbfdf2728p-11, 0x1.31446f740b9ep-23},
    {0x1.46a7eca984b69p+12, 0x1.20d3f686439e4p-30, 0x1.269bff1f8c19p-49},
};
static const double fk_as241_shift[4] = {0, 0x1.999999999999ap+0, 5};

/* Return the number of regions that words of the fill can reach with these bounds. */
FK_INLINE int fk_regions_f64(const fk_params *params) {
    const double least =
        params->lower_intercept < params->upper_intercept ? params->lower_intercept : params->upper_intercept;
    return least >= FK_CENTRAL_F64 ? 1 : least >= FK_FAR_TAIL_F64 ? 2 : 3;
}

FK_INLINE v_f64 fk_select_by_region(const double values[4], v_u64 region, int regions) {
    if (regions == 1) { return vd_set1(values[0]); }
    return regions == 2 ? vd_lookup2(values, region) : vd_lookup4(values, region);
}

FK_INLINE v_f64 fk_as241_linear(const double coefficients[2][4], v_u64 region, v_f64 x, int regions) {
    return vd_fma(x, fk_select_by_region(coefficients[1], region, regions),
                  fk_select_by_region(coefficients[0], region, regions));
}

/* A polynomial of degree 7 by Estrin's scheme, with the coefficients of each lane's region. */
FK_INLINE v_f64 fk_as241(const double coefficients[8][4], v_u64 region, v_f64 x, int regions) {
    const v_f64 x2 = vd_mul(x, x), x4 = vd_mul(x2, x2);
    const v_f64 c01 = fk_as241_linear(coefficients, region, x, regions);
    const v_f64 c23 = fk_as241_linear(coefficients + 2, region, x, regions);
    const v_f64 c45 = fk_as241_linear(coefficients + 4, region, x, regions);
    const v_f64 c67 = fk_as241_linear(coefficients + 6, region, x, regions);
    return vd_fma(x4, vd_fma(x2, c67, c45), vd_fma(x2, c23, c01));
}

/* sqrt(-ln v). */
FK_INLINE v_f64 fk_tail_radius_f64(v_f64 v) {
    const v_f64 twice = vd_mul(v, vd_set1(2.0));
    const v_u64 k = vd_interval_of(twice);
    const v_f64 f = vd_fma(vd_significand(twice), vd_lookup16(fk_half_reciprocal, k), vd_set1(-1.0));
    return vd_sqrt(vd_mul(fk_minus_2_ln_f64(vd_exponent(twice), k, f), vd_set1(0.5)));
}

/* z from t = Phi(z) - 1/2 and v.
 *
 * Range: v in [2^-1022, 3/4], v >= FK_CENTRAL_F64 if regions is 1, v >= FK_FAR_TAIL_F64 if it is 2. Result: within
 * (-37.6, 37.6).
 *
 * Max error: 8 ulp of the exact transform of the words, as called by fk_truncated_f64. */
FK_INLINE v_f64 fk_quantile_f64(v_f64 t, v_f64 v, int regions) {
    v_u64 region = vq_set1(0);
    v_f64 x = vd_fnma(t, t, vd_set1(0x1.71eb851eb851fp-3)), factor = t;
    if (regions > 1) {
        const v_f64 r = fk_tail_radius_f64(v), tail_sign = vd_sub(v, vd_set1(FK_CENTRAL_F64));
        region = vq_top_bit(vd_to_bits(tail_sign));
        if (regions > 2) { region = vq_add(region, vq_top_bit(vd_to_bits(vd_sub(vd_set1(5.0), r)))); }
        x = vd_by_sign(tail_sign, vd_sub(r, fk_select_by_region(fk_as241_shift, region, regions)), x);
        factor = vd_by_sign(tail_sign, vd_flip_sign(vd_set1(1.0), vd_to_bits(t)), t);
    }
    return vd_div(vd_mul(factor, fk_as241(fk_as241_numerator, region, x, regions)),
                  fk_as241(fk_as241_denominator, region, x, regions));
}

/* Transform a word into a value of the normal distribution between any bounds.
 *
 * Range: all words; parameters computed by _normal_cdf.py, and the result of fk_regions_f64 for them. Result: in [low,
 * high]. Max error: the error of z plus half an ulp for the last rounding. If the bounds are not symmetric about the
 * mean, z has an additional absolute error of about 2^-53, which is relevant only near 0. */
FK_INLINE_UNLESS_SCALAR v_f64 fk_truncated_f64(const fk_params *params, v_u64 word, int regions) {
    const v_f64 centered = vd_from_i64(vq_xor(word, vq_set1(UINT64_C(1) << 63)));
    const v_f64 from_end = vd_from_i64(vq_xor(word, vq_sign(word))); /* word or 2^64 - 1 - word */
    const v_f64 slope = vd_by_sign(centered, vd_set1(params->lower_slope), vd_set1(params->upper_slope));
    const v_f64 intercept = vd_by_sign(centered, vd_set1(params->lower_intercept), vd_set1(params->upper_intercept));
    const v_f64 t = vd_fma(centered, vd_set1(params->slope), vd_set1(params->intercept));
    const v_f64 z = fk_quantile_f64(t, vd_fma(from_end, slope, intercept), regions);
    const v_f64 value = vd_fma(vd_set1(params->scale), z, vd_set1(params->center));
    return vd_max(vd_min(value, vd_set1(params->high)), vd_set1(params->low));
}

#endif

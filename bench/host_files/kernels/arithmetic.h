/* Functions of one float32 without branches and calls, so that a compiler runs a loop over them in
 * vectors. Errors are in units in the last place (ULP) against float64 wherever the true result is
 * a normal number; below that, results are within 2^-126. NaN gives NaN; infinities give limits.
 * tests/bench/compiler/test_arithmetic.py holds them to that.
 *
 * Arguments are reduced as by W. Cody and W. Waite (Software Manual for the Elementary Functions,
 * 1980) and in fdlibm (Sun Microsystems, 1993); polynomials are weighted least squares iterated
 * towards equal ripple.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512VBMI__
#include <immintrin.h>
#endif

#define FB_NAN (__builtin_nanf(""))
#define FB_INFINITY (__builtin_inff())
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
#define FB static inline __attribute__((always_inline, unused))

FB float fb_from_bits(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

FB int32_t fb_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^n for -127 < n < 128; 0 for -127. */
FB float fb_power(int32_t n) { return fb_from_bits((int32_t)((uint32_t)(n + 127) << 23)); }

/* x = n ln 2 + r, |r| <= ln 2 / 2, for |x| < 2^20. */
FB float fb_reduce(float x, int32_t *n)
{
    float shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to whole numbers */
    float k = shifted - 12582912.0f;
    *n = (int32_t)((uint32_t)fb_bits(shifted) - 0x4B400000u);
    float r = x - k * 0.693359375f;
    return r + k * 2.12194440e-4f;
}

/* (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2. */
FB float fb_exp_tail(float r)
{
    float p = 1.9913707e-4f;
    p = p * r + 1.3941117e-3f;
    p = p * r + 8.3332742e-3f;
    p = p * r + 4.1666355e-2f;
    p = p * r + 1.6666667e-1f;
    return p * r + 5.0e-1f;
}

/* e^x for -87 < x < 88: without limits and NaN. */
FB float fb_exp_inside(float x)
{
    int32_t n;
    float r = fb_reduce(x, &n);
    return (fb_exp_tail(r) * r * r + r + 1.0f) * fb_power(n);
}

/* Within 1.5 ULP. */
FB float fb_exp(float x)
{
    int32_t n;
    float t = x > 89.0f ? 89.0f : x;
    t = t < -104.0f ? -104.0f : t;
    float r = fb_reduce(t, &n);
    int32_t half = n >> 1;
    return (fb_exp_tail(r) * r * r + r + 1.0f) * fb_power(half) * fb_power(n - half);
}

/* e^x - 1, within 2 ULP. */
FB float fb_expm1(float x)
{
    int32_t n;
    float t = x > 89.0f ? 89.0f : x;
    t = t < -30.0f ? -30.0f : t;
    float r = fb_reduce(t, &n), power = fb_power(n - 1);
    float inner = fb_exp_tail(r) * r * r + r;
    float whole = (power * inner + (power - 0.5f)) * 2.0f;
    return n == 0 ? (x == 0.0f ? x : inner) : whole; /* -0 stays, and so do denormals */
}

/* (2 atanh(s) - 2 s) / s = 2 s^2 (1/3 + s^2/5 + ...) for s^2 <= 1/9. */
FB float fb_atanh_tail(float z)
{
    float p = 1.2150469e-1f;
    p = p * z + 1.0713828e-1f;
    p = p * z + 1.4308442e-1f;
    p = p * z + 1.9999439e-1f;
    p = p * z + 3.3333337e-1f;
    return 2.0f * z * p;
}

/* ln(1 + f) for sqrt(1/2) - 1 <= f <= 1. */
FB float fb_log1p_inside(float f, float more)
{
    float s = f / (2.0f + f), square = 0.5f * f * f;
    return f - (square - (s * (square + fb_atanh_tail(s * s)) + more));
}

/* Within 1.5 ULP. */
FB float fb_log(float x)
{
    float scaled = x < FLT_MIN ? x * 8388608.0f : x;
    int32_t bits = fb_bits(scaled);
    int32_t n = (bits - 0x3F3504F3) >> 23;
    float f = fb_from_bits((int32_t)((uint32_t)bits - ((uint32_t)n << 23))) - 1.0f;
    float k = (float)n - (x < FLT_MIN ? 23.0f : 0.0f);
    float y = fb_log1p_inside(f, k * -2.12194440e-4f) + k * 0.693359375f;
    y = x > FLT_MAX ? x : y;
    y = x == 0.0f ? -FB_INFINITY : y;
    return x >= 0.0f ? y : FB_NAN;
}

/* Within 2 ULP. */
FB float fb_erf(float x)
{
    float s = x * x, a = fabsf(x), t = a < 3.95f ? a : 3.95f;
    float p = -5.9537392e-4f;
    p = p * s + 4.9859402e-3f;
    p = p * s - 2.6761720e-2f;
    p = p * s + 1.1281683e-1f;
    p = p * s - 3.7612480e-1f;
    p = p * s + 1.2837915e-1f;
    float q = -1.9718260e-4f;
    q = q * t + 3.0556154e-3f;
    q = q * t - 2.2277117e-2f;
    q = q * t + 1.0403741e-1f;
    q = q * t + 6.3705969e-1f;
    q = q * t + 1.1277496f;
    q = q * t + 1.7748750e-4f;
    float large = copysignf(1.0f - fb_exp_inside(-q), x);
    return a > 0.925f ? large : x + x * p;
}

/* Within 3 ULP: (e^2|x| - 1) / (e^2|x| + 1) with the sign of x. */
FB float fb_tanh(float x)
{
    float a = 2.0f * fabsf(x), less = fb_expm1(a > 20.0f ? 20.0f : a);
    return copysignf(less / (less + 2.0f), x);
}

/* Within 3 ULP. */
FB float fb_sigmoid(float x) { return 1.0f / (1.0f + fb_exp(-x)); }

/* ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), within 2.5 ULP. */
FB float fb_softplus(float x)
{
    return (x > 0.0f ? x : 0.0f) + fb_log1p_inside(fb_exp(-fabsf(x)), 0.0f);
}

/* mish(x) = x n / (n + 2), n = e (e + 2), e = exp(x): x tanh(ln(1 + e)) with tanh(ln u) =
 * (u^2 - 1) / (u^2 + 1). From x = 20 on the quotient is 1 in float32, below -88 it is 0, so that
 * minus infinity gives NaN as in PyTorch. Within 4 ULP for x > -87; smaller x give what is nearly 0,
 * within 2^-118. */
FB float fb_mish(float x)
{
    float t = x < 20.0f ? x : 20.0f;
    float e = fb_exp_inside(t > -88.0f ? t : -88.0f);
    float n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

/* NaN where either is. */
FB float fb_min(float a, float b) { return a < b || a != a ? a : b; }
FB float fb_max(float a, float b) { return a > b || a != a ? a : b; }

#ifdef FB_FLOAT16
FB float fb_half(float x) { return (float)(_Float16)x; }
#endif

/* y = table[x] for `n` codes. */
static inline __attribute__((unused)) void fb_look_up(
    const uint8_t *x, const uint8_t *table, uint8_t *y, size_t n)
{
    size_t i = 0;
#ifdef __AVX512VBMI__
    __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    for (; i + 64 <= n; i += 64) {
        __m512i codes = _mm512_loadu_si512(x + i);
        __m512i lower = _mm512_permutex2var_epi8(a, codes, b);
        __m512i upper = _mm512_permutex2var_epi8(c, codes, d);
        __mmask64 high = _mm512_movepi8_mask(codes);
        _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(high, lower, upper));
    }
#endif
    for (; i < n; i++)
        y[i] = table[x[i]];
}

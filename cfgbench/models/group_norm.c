/* Group norm of images [n, channels] each, scaled and shifted, then SiLU: an image at a time, while it is in the cache.

   x and y are [images, n, channels], float32 or bfloat16 (`half`); weight and bias [channels]; scale and shift
   [images, channels] with rows `stride` apart, or null; all but x and y are float32. layers.py has the same in torch.

   Rows of few channels are read several at a time, as one line, so that vectors are full. A line's numbers stand in its
   columns: a channel has as many of them as a line has rows. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#define SEVERAL 4 /* vectors side by side: each sum waits for the one before it, and cache lines are read whole */
#define AT_ONCE 2048 /* numbers of wide lines that are gone through before the next, so that memory is read in order */
#define ROOM(width) ((width) + LANES) /* of arrays that are read and written in whole vectors */
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef uint32_t word __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

INLINE vec load(const void *from, long place, long count, int half) { /* `count` numbers, then zeros */
    if (half) {
        halves found = {0};
        memcpy(&found, (const uint16_t *)from + place, count * sizeof(uint16_t));
        return (vec)(__builtin_convertvector(found, word) << 16);
    }
    vec found = {0};
    memcpy(&found, (const float *)from + place, count * sizeof(float));
    return found;
}

INLINE halves to_half(vec value) { /* to the nearest, ties to even; a NaN from bfloat16 or from arithmetic stays one */
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)value);
#else
    word bits = (word)value;
    return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, halves);
#endif
}

INLINE void store(void *to, long place, long count, int half, vec value) {
    if (half) {
        halves kept = to_half(value);
        memcpy((uint16_t *)to + place, &kept, count * sizeof(uint16_t));
    } else {
        memcpy((float *)to + place, &value, count * sizeof(float));
    }
}

INLINE vec at(const float *values, long place) { return load(values, place, LANES, 0); }
INLINE void put(float *values, long place, vec value) { store(values, place, LANES, 0, value); }

INLINE vec within(vec v, float most) { /* a NaN stays one */
#ifdef __AVX512F__
    return (vec)_mm512_max_ps(_mm512_set1_ps(-most), _mm512_min_ps(_mm512_set1_ps(most), (__m512)v));
#else
    vec high = most - (vec){0}, low = -high;
    mask above = v > high, below = v < low;
    return (vec)((above & (mask)high) | (below & (mask)low) | (~(above | below) & (mask)v));
#endif
}

INLINE vec quotient(vec v, vec by, int half) {
#ifdef __AVX512F__
    if (half) return v * (vec)_mm512_rcp14_ps((__m512)by);
#endif
    return v / by;
}

/* v sigmoid(z), by exp(-z) = 2^k e^r, |r| <= log(2) / 2, and a polynomial: to 3 ulp; for bfloat16 to 1.5e-4, a tenth of
   what rounding takes. */
INLINE vec times_sigmoid(vec v, vec z, int half) {
    vec a = within(z, 87.0f), shifted = a * -1.44269504f + 12582912.0f; /* by 1.5 2^23: all behind the point goes */
    vec k = shifted - 12582912.0f, r = (k * -0.693359375f - a) + k * 2.12194440e-4f, p;
    if (half) {
        p = r * 0.16566849f + 0.50496337f;
        p = p * r + 1.00016419f;
        p = p * r + 0.99992807f;
    } else {
        p = r * 1.9875691500e-4f + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * (r * r) + (r + 1.0f);
    }
    vec power = (vec)((word)p + ((word)shifted << 23)); /* 2^k p: k is in the lowest bits of `shifted` */
    return quotient(v, 1.0f + power, half);
}

typedef struct {
    long images, n, channels, groups;
    float eps;
    long rows, width, lines; /* of a line; numbers of it; of an image */
    long step;               /* lines that are gone through before the next */
} shape;

INLINE int full(long width) {
    return width >= SEVERAL * LANES && (width % LANES == 0 || width >= 4 * SEVERAL * LANES);
}

INLINE shape shaped(long images, long n, long channels, long groups, float eps) {
    long rows = 1;
    while (!full(channels * rows) && n % (2 * rows) == 0) rows *= 2;
    long width = channels * rows, lines = n / rows;
    int all = width <= SEVERAL * LANES || width % LANES; /* the last vector reaches back, and would be counted twice */
    return (shape){images, n, channels, groups, eps, rows, width, lines, all ? lines : 1 + AT_ONCE / width};
}

/* Calls `body(..., from, to, v, many, count)`, for lines `from` to `to` and `many` vectors of `count` columns from v,
   until all of an image is done. */
#define FOR_ALL(s, body, ...)                                                                                          \
    for (long from = 0, to, v, width = (s).width; from < (s).lines; from = to) {                                       \
        to = from + (s).step < (s).lines ? from + (s).step : (s).lines;                                                \
        for (v = 0; v + SEVERAL * LANES <= width; v += SEVERAL * LANES)                                                \
            body(__VA_ARGS__, from, to, v, SEVERAL, LANES);                                                            \
        for (; v + LANES <= width; v += LANES) body(__VA_ARGS__, from, to, v, 1, LANES);                               \
        if (v < width && width >= LANES) body(__VA_ARGS__, from, to, width - LANES, 1, LANES);                         \
        if (width < LANES) body(__VA_ARGS__, from, to, 0, 1, width);                                                   \
    }

INLINE void fold(const float *values, float *into, shape s) { /* the sums of each channel's columns; in place too */
    for (long c = 0; c < s.channels; c += LANES) {
        vec total = at(values, c);
        for (long r = 1; r < s.rows; r++) total += at(values, r * s.channels + c);
        put(into, c, total);
    }
}

INLINE void spread(float *values, shape s) { /* a channel's first column into its others */
    for (long r = 1; r < s.rows; r++)
        for (long c = 0; c < s.channels; c += LANES) put(values, r * s.channels + c, at(values, c));
}

INLINE void grouped(float *values, long channels, long size, float factor) {
    for (long first = 0; first < channels; first += size) {
        float total = 0;
        for (long c = first; c < first + size; c++) total += values[c];
        for (long c = first; c < first + size; c++) values[c] = total * factor;
    }
}

INLINE void over_groups(float *values, shape s, float factor) { /* each channel's: its group's sum times `factor` */
    long size = s.channels / s.groups;
    if (size == 4) /* of fewer than 128 channels */
        grouped(values, s.channels, 4, factor);
    else
        grouped(values, s.channels, size, factor);
}

/* Each column's sum of x - about, and of its square; `about` are the first numbers, or what is there already. */
INLINE void sums(const void *x, shape s, float *about, float *sum, float *square, int there, int half, long from,
                 long to, long v, int many, long count) {
    vec middle[SEVERAL], total[SEVERAL], squares[SEVERAL];
    for (int j = 0; j < many; j++) {
        long c = v + j * LANES;
        if (!there) put(about, c, load(x, c, count, half));
        middle[j] = at(about, c);
        total[j] = from ? at(sum, c) : (vec){0};
        squares[j] = from ? at(square, c) : (vec){0};
    }
    for (long p = from; p < to; p++)
        for (int j = 0; j < many; j++) {
            vec d = load(x, p * s.width + v + j * LANES, count, half) - middle[j];
            total[j] += d;
            squares[j] += d * d;
        }
    for (int j = 0; j < many; j++) {
        put(sum, v + j * LANES, total[j]);
        put(square, v + j * LANES, squares[j]);
    }
}

/* mean and 1 / standard deviation of each channel's group, in its first column. Squares are taken about a number that
   occurs, and of float32 then about the mean: rounding of the sums is a part of what is left. */
INLINE void moments(const void *x, shape s, float *mean, float *rstd, int half) {
    float means[ROOM(s.width)], size = (float)s.channels / s.groups, one = 1.0f / s.lines;
    for (int again = 0; again < (half ? 1 : 2); again++) {
        FOR_ALL(s, sums, x, s, means, mean, rstd, again, half)
        for (long c = 0; c < s.width; c++) {
            float off = mean[c] * one;
            rstd[c] -= off * mean[c];
            means[c] += off;
        }
    }
    fold(means, mean, s);
    over_groups(mean, s, 1.0f / (size * s.rows));
    for (long r = 0; r < s.rows; r++)
        for (long c = 0; c < s.channels; c++) {
            float d = means[r * s.channels + c] - mean[c];
            rstd[r * s.channels + c] += s.lines * d * d;
        }
    fold(rstd, rstd, s);
    over_groups(rstd, s, 1.0f / (size * s.n));
    for (long c = 0; c < s.channels; c++) {
        float nothing = rstd[c] - rstd[c]; /* NaN where squares overflowed: x would vanish, and the bias look like y */
        rstd[c] = 1.0f / sqrtf(rstd[c] + s.eps) + nothing;
    }
}

INLINE void apply(const void *x, void *y, shape s, const float *factor, const float *offset, int silu, int half,
                  long from, long to, long v, int many, long count) {
    vec a[SEVERAL], b[SEVERAL];
    for (int j = 0; j < many; j++) {
        a[j] = at(factor, v + j * LANES);
        b[j] = at(offset, v + j * LANES);
    }
    for (long p = from; p < to; p++)
        for (int j = 0; j < many; j++) {
            long place = p * s.width + v + j * LANES;
            vec z = load(x, place, count, half) * a[j] + b[j];
            store(y, place, count, half, silu ? times_sigmoid(z, z, half) : z);
        }
}

INLINE void *image(const void *of, shape s, long i, int half) {
    return (char *)of + i * s.n * s.channels * (half ? sizeof(uint16_t) : sizeof(float));
}

INLINE void forward(const void *x, void *y, const float *weight, const float *bias, const float *scale,
                    const float *shift, long stride, shape s, int silu, int half) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < s.images; i++) {
        const void *in = image(x, s, i, half);
        void *out = image(y, s, i, half);
        float factor[ROOM(s.width)], offset[ROOM(s.width)];
        moments(in, s, offset, factor, half);
        for (long c = 0; c < s.channels; c++) {
            float a = scale ? 1.0f + scale[i * stride + c] : 1.0f, b = shift ? shift[i * stride + c] : 0.0f;
            factor[c] *= weight[c] * a;
            offset[c] = bias[c] * a + b - offset[c] * factor[c];
        }
        spread(factor, s);
        spread(offset, s);
        FOR_ALL(s, apply, in, out, s, factor, offset, silu, half)
    }
}

/* The gradient dz before SiLU, and each column's sums of dz and of dz (x - mean). */
INLINE void gradients(const void *x, const void *dy, float *dz, shape s, const float *factor, const float *offset,
                      const float *mean, float *sum, float *dot, int silu, int half, long from, long to, long v,
                      int many, long count) {
    vec a[SEVERAL], b[SEVERAL], m[SEVERAL], sums[SEVERAL], dots[SEVERAL];
    for (int j = 0; j < many; j++) {
        long c = v + j * LANES;
        a[j] = at(factor, c), b[j] = at(offset, c), m[j] = at(mean, c);
        sums[j] = from ? at(sum, c) : (vec){0};
        dots[j] = from ? at(dot, c) : (vec){0};
    }
    for (long p = from; p < to; p++)
        for (int j = 0; j < many; j++) {
            long place = p * s.width + v + j * LANES;
            vec value = load(x, place, count, half), d = load(dy, place, count, half);
            if (silu) {
                vec z = value * a[j] + b[j], e = times_sigmoid((vec){0} + 1.0f, z, half);
                d *= e * (1.0f + z * (1.0f - e));
            }
            store(dz, place, count, 0, d);
            sums[j] += d;
            dots[j] += d * (value - m[j]);
        }
    for (int j = 0; j < many; j++) {
        put(sum, v + j * LANES, sums[j]);
        put(dot, v + j * LANES, dots[j]);
    }
}

/* dx = factor dz + slope x + rest */
INLINE void combine(const void *x, const float *dz, void *dx, shape s, const float *factor, const float *slope,
                    const float *rest, int half, long from, long to, long v, int many, long count) {
    vec a[SEVERAL], b[SEVERAL], c[SEVERAL];
    for (int j = 0; j < many; j++) {
        a[j] = at(factor, v + j * LANES);
        b[j] = at(slope, v + j * LANES);
        c[j] = at(rest, v + j * LANES);
    }
    for (long p = from; p < to; p++)
        for (int j = 0; j < many; j++) {
            long place = p * s.width + v + j * LANES;
            vec straight = a[j] * load(dz, place, count, 0) + c[j];
            store(dx, place, count, half, straight + b[j] * load(x, place, count, half));
        }
}

/* dx, and per image and channel `plain` = sum dz and `normed` = sum dz x^, where dz is the gradient before SiLU and
   x^ = (x - mean) rstd. Returns 0 where memory ran out. */
INLINE int backward(const void *x, const void *dy, void *dx, float *plain, float *normed, const float *weight,
                    const float *bias, const float *scale, const float *shift, long stride, shape s, int silu,
                    int half) {
    int whole = 1;
    float one = (float)s.groups / ((float)s.n * s.channels);
#pragma omp parallel
    {
        float *dz = malloc((size_t)s.n * s.channels * sizeof(float));
        if (!dz) whole = 0;
#pragma omp for schedule(static)
        for (long i = 0; i < s.images; i++) {
            if (!dz) continue;
            const void *in = image(x, s, i, half), *up = image(dy, s, i, half);
            void *out = image(dx, s, i, half);
            float mean[ROOM(s.width)], rstd[ROOM(s.width)], factor[ROOM(s.width)], offset[ROOM(s.width)];
            float sum[ROOM(s.width)], dot[ROOM(s.width)];
            moments(in, s, mean, rstd, half);
            for (long c = 0; c < s.channels; c++) {
                float a = scale ? 1.0f + scale[i * stride + c] : 1.0f, b = shift ? shift[i * stride + c] : 0.0f;
                factor[c] = rstd[c] * weight[c] * a;
                offset[c] = bias[c] * a + b - mean[c] * factor[c];
            }
            spread(factor, s);
            spread(offset, s);
            spread(mean, s);
            FOR_ALL(s, gradients, in, up, dz, s, factor, offset, mean, sum, dot, silu, half)
            fold(sum, sum, s);
            fold(dot, dot, s);
            for (long c = 0; c < s.channels; c++) {
                plain[i * s.channels + c] = sum[c];
                normed[i * s.channels + c] = dot[c] * rstd[c];
                sum[c] *= factor[c] / rstd[c];
                dot[c] *= factor[c];
            }
            over_groups(sum, s, one);
            over_groups(dot, s, one);
            for (long c = 0; c < s.channels; c++) {
                float slope = -rstd[c] * rstd[c] * dot[c];
                dot[c] = -rstd[c] * sum[c] - mean[c] * slope;
                sum[c] = slope;
            }
            spread(sum, s);
            spread(dot, s);
            FOR_ALL(s, combine, in, dz, out, s, factor, sum, dot, half)
        }
        free(dz);
    }
    return whole;
}

#define KERNELS(T, half)                                                                                               \
    void forward_##T(const void *x, void *y, const float *weight, const float *bias, const float *scale,               \
                     const float *shift, long stride, long images, long n, long channels, long groups, float eps,      \
                     int silu) {                                                                                       \
        shape s = shaped(images, n, channels, groups, eps);                                                            \
        if (silu)                                                                                                      \
            forward(x, y, weight, bias, scale, shift, stride, s, 1, half);                                             \
        else                                                                                                           \
            forward(x, y, weight, bias, scale, shift, stride, s, 0, half);                                             \
    }                                                                                                                  \
                                                                                                                       \
    int backward_##T(const void *x, const void *dy, void *dx, float *plain, float *normed, const float *weight,        \
                     const float *bias, const float *scale, const float *shift, long stride, long images, long n,      \
                     long channels, long groups, float eps, int silu) {                                                \
        shape s = shaped(images, n, channels, groups, eps);                                                            \
        return silu ? backward(x, dy, dx, plain, normed, weight, bias, scale, shift, stride, s, 1, half)               \
                    : backward(x, dy, dx, plain, normed, weight, bias, scale, shift, stride, s, 0, half);              \
    }

KERNELS(bf16, 1)
KERNELS(fp32, 0)

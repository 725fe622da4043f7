/* Group norm of images [n, channels] each, scaled and shifted, then SiLU: one image at a time, while it is in the cache.

   x and y are [images, n, channels]; weight and bias [channels]; scale and shift [images, channels] with rows `stride`
   apart, or null. See layers.py for the same in torch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NARROW 64 /* narrower rows are read several at a time, so that vectors are full */

typedef uint16_t bf16;
typedef float fp32;
typedef union { float f; uint32_t i; } word;

static inline float from_bf16(bf16 h) { word u = {.i = (uint32_t)h << 16}; return u.f; }
static inline bf16 to_bf16(float f) { /* to the nearest, ties to even; a NaN from bf16 or from arithmetic stays one */
    word u = {.f = f};
    return (bf16)((u.i + 0x7fffu + ((u.i >> 16) & 1u)) >> 16);
}
static inline float from_fp32(float f) { return f; }
static inline float to_fp32(float f) { return f; }

static inline float sigmoid(float v) { /* by exp(-v) = 2^k e^r, |r| <= log(2) / 2, and a polynomial; 2 ulp */
    float a = -v;
    a = a > 88.0f ? 88.0f : a;
    a = a < -87.0f ? -87.0f : a;
    float k = rintf(a * 1.44269504f);
    float r = (a - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    word u = {.i = (uint32_t)((int32_t)k + 127) << 23};
    return 1.0f / (1.0f + p * u.f);
}

static long together(long n, long channels) { /* how many rows are read as one */
    long rows = 1;
    while (channels * rows < NARROW && n % (2 * rows) == 0) rows *= 2;
    return rows;
}

static void fold(float *values, long channels, long rows) { /* the sums of several rows' columns, put into the first */
    for (long r = 1; r < rows; r++)
        for (long c = 0; c < channels; c++) values[c] += values[r * channels + c];
}

static void spread(float *values, long channels, long rows) {
    for (long r = 1; r < rows; r++) memcpy(values + r * channels, values, channels * sizeof(float));
}

static void over_groups(float *values, long channels, long groups, float count) { /* each channel's: its group's mean */
    long size = channels / groups;
    for (long g = 0; g < groups; g++) {
        float total = 0;
        for (long c = g * size; c < (g + 1) * size; c++) total += values[c];
        for (long c = g * size; c < (g + 1) * size; c++) values[c] = total / count;
    }
}

#define KERNELS(T)                                                                                                     \
    /* mean and 1 / standard deviation of each channel's group, repeated over the rows that are read together */       \
    static void moments_##T(const T *restrict x, float *restrict mean, float *restrict rstd, long n, long channels,    \
                            long groups, long rows, float eps) {                                                       \
        long width = channels * rows;                                                                                  \
        memset(mean, 0, width * sizeof(float));                                                                        \
        memset(rstd, 0, width * sizeof(float));                                                                        \
        for (long p = 0; p < n / rows; p++)                                                                            \
            for (long c = 0; c < width; c++) mean[c] += from_##T(x[p * width + c]);                                    \
        fold(mean, channels, rows);                                                                                    \
        over_groups(mean, channels, groups, (float)n * channels / groups);                                             \
        spread(mean, channels, rows);                                                                                  \
        for (long p = 0; p < n / rows; p++)                                                                            \
            for (long c = 0; c < width; c++) {                                                                         \
                float d = from_##T(x[p * width + c]) - mean[c];                                                        \
                rstd[c] += d * d;                                                                                      \
            }                                                                                                          \
        fold(rstd, channels, rows);                                                                                    \
        over_groups(rstd, channels, groups, (float)n * channels / groups);                                             \
        for (long c = 0; c < channels; c++) rstd[c] = 1.0f / sqrtf(rstd[c] + eps);                                     \
        spread(rstd, channels, rows);                                                                                  \
    }                                                                                                                  \
                                                                                                                       \
    void forward_##T(const T *restrict x, T *restrict y, const float *weight, const float *bias, const float *scale,   \
                     const float *shift, long stride, long images, long n, long channels, long groups, float eps,      \
                     int silu) {                                                                                       \
        long rows = together(n, channels), width = channels * rows;                                                    \
        _Pragma("omp parallel for schedule(static)") for (long i = 0; i < images; i++) {                               \
            const T *restrict in = x + i * n * channels;                                                               \
            T *restrict out = y + i * n * channels;                                                                    \
            float factor[width], offset[width];                                                                        \
            moments_##T(in, offset, factor, n, channels, groups, rows, eps);                                           \
            for (long c = 0; c < channels; c++) {                                                                      \
                float a = scale ? 1.0f + scale[i * stride + c] : 1.0f, b = shift ? shift[i * stride + c] : 0.0f;       \
                factor[c] *= weight[c] * a;                                                                            \
                offset[c] = bias[c] * a + b - offset[c] * factor[c];                                                   \
            }                                                                                                          \
            spread(factor, channels, rows);                                                                            \
            spread(offset, channels, rows);                                                                            \
            for (long p = 0; p < n / rows; p++)                                                                        \
                if (silu)                                                                                              \
                    for (long c = 0; c < width; c++) {                                                                 \
                        float v = from_##T(in[p * width + c]) * factor[c] + offset[c];                                 \
                        out[p * width + c] = to_##T(v * sigmoid(v));                                                   \
                    }                                                                                                  \
                else                                                                                                   \
                    for (long c = 0; c < width; c++)                                                                   \
                        out[p * width + c] = to_##T(from_##T(in[p * width + c]) * factor[c] + offset[c]);              \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    /* dx, and per image and channel `plain` = sum dz and `normed` = sum dz x^, where dz is the gradient before SiLU   \
       and x^ = (x - mean) rstd. Returns 0 where memory ran out. */                                                    \
    int backward_##T(const T *restrict x, const T *restrict dy, T *restrict dx, float *restrict plain,                 \
                     float *restrict normed, const float *weight, const float *bias, const float *scale,               \
                     const float *shift, long stride, long images, long n, long channels, long groups, float eps,      \
                     int silu) {                                                                                       \
        long rows = together(n, channels), width = channels * rows;                                                    \
        int whole = 1;                                                                                                 \
        _Pragma("omp parallel") {                                                                                      \
            float *restrict dz = malloc((size_t)n * channels * sizeof(float));                                         \
            if (!dz) whole = 0;                                                                                        \
            _Pragma("omp for schedule(static)") for (long i = 0; i < images; i++) {                                    \
                if (!dz) continue;                                                                                     \
                const T *restrict in = x + i * n * channels, *restrict up = dy + i * n * channels;                     \
                T *restrict out = dx + i * n * channels;                                                               \
                float mean[width], rstd[width], factor[width], offset[width], s[width], t[width];                      \
                moments_##T(in, mean, rstd, n, channels, groups, rows, eps);                                           \
                for (long c = 0; c < channels; c++) {                                                                  \
                    float a = scale ? 1.0f + scale[i * stride + c] : 1.0f, b = shift ? shift[i * stride + c] : 0.0f;   \
                    factor[c] = rstd[c] * weight[c] * a;                                                               \
                    offset[c] = bias[c] * a + b - mean[c] * factor[c];                                                 \
                }                                                                                                      \
                spread(factor, channels, rows);                                                                        \
                spread(offset, channels, rows);                                                                        \
                for (long c = 0; c < width; c++) s[c] = t[c] = 0;                                                      \
                for (long p = 0; p < n / rows; p++)                                                                    \
                    for (long c = 0; c < width; c++) {                                                                 \
                        float v = from_##T(in[p * width + c]), d = from_##T(up[p * width + c]);                        \
                        if (silu) {                                                                                    \
                            float z = v * factor[c] + offset[c], e = sigmoid(z);                                       \
                            d *= e * (1.0f + z * (1.0f - e));                                                          \
                        }                                                                                              \
                        dz[p * width + c] = d;                                                                         \
                        s[c] += d;                                                                                     \
                        t[c] += d * (v - mean[c]) * rstd[c];                                                           \
                    }                                                                                                  \
                fold(s, channels, rows);                                                                               \
                fold(t, channels, rows);                                                                               \
                memcpy(plain + i * channels, s, channels * sizeof(float));                                             \
                memcpy(normed + i * channels, t, channels * sizeof(float));                                            \
                for (long c = 0; c < channels; c++) {                                                                  \
                    s[c] *= factor[c] / rstd[c];                                                                       \
                    t[c] *= factor[c] / rstd[c];                                                                       \
                }                                                                                                      \
                over_groups(s, channels, groups, (float)n * channels / groups);                                        \
                over_groups(t, channels, groups, (float)n * channels / groups);                                        \
                for (long c = 0; c < channels; c++) {                                                                  \
                    float slope = -rstd[c] * rstd[c] * t[c];                                                           \
                    t[c] = -rstd[c] * s[c] - mean[c] * slope;                                                          \
                    s[c] = slope;                                                                                      \
                }                                                                                                      \
                spread(s, channels, rows);                                                                             \
                spread(t, channels, rows);                                                                             \
                for (long p = 0; p < n / rows; p++)                                                                    \
                    for (long c = 0; c < width; c++)                                                                   \
                        out[p * width + c] =                                                                           \
                            to_##T(factor[c] * dz[p * width + c] + s[c] * from_##T(in[p * width + c]) + t[c]);         \
            }                                                                                                          \
            free(dz);                                                                                                  \
        }                                                                                                              \
        return whole;                                                                                                  \
    }

KERNELS(bf16)
KERNELS(fp32)

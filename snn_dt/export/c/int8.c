/* Weights are int8 with one scale per output. Other numbers are int32 in fixed point: 65536 stands for 1. A shift to the
   right of a negative number is arithmetic on every compiler for these chips. */
typedef int32_t value;
typedef struct { const int8_t *weight; const int32_t *bias, *scale; int inputs, stride, outputs; } linear;
typedef struct { const uint32_t *weight; const int32_t *bias, *scale; int words, outputs; } spike_linear;
typedef struct { const int32_t *gain, *shift; float eps; } layer_norm;
typedef struct { int32_t keep, threshold; } lif;                                     /* keep = 1 - dt / tau_mem */

/* functions */
static value from_float(float x) {
    if (x > 32000.0f) x = 32000.0f;
    if (x < -32000.0f) x = -32000.0f;
    return (value)(x * 65536.0f);
}

static float to_float(value x) { return (float)x * (1.0f / 65536.0f); }

static value multiply(value a, value b) { return (value)(((int64_t)a * b) >> 16); }

static const value ONE = 65536;

/* y = W x + bias. The inputs are rounded to 14 bits with the sign, so that 2,000 products fit in an accumulator of 32.
   Four outputs at a time, so that an input is read once for four weights. A scale of 2^32 stands for 1. Rows of weights
   are padded to multiples of four inputs. */
static void affine(const linear *l, const value *x, int16_t *narrow, value *y) {
    uint32_t most = 0;
    int shift = 0, o = 0;
    for (int i = 0; i < l->inputs; ++i) most |= (uint32_t)(x[i] < 0 ? -x[i] : x[i]);
    while ((most >> shift) > 8191u) ++shift;
    for (int i = 0; i < l->stride; ++i) narrow[i] = (int16_t)(i < l->inputs ? x[i] >> shift : 0);
    for (; o < l->outputs; o += 4) {
        const int8_t *w0 = l->weight + o * l->stride, *w1 = w0 + l->stride, *w2 = w1 + l->stride, *w3 = w2 + l->stride;
        int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (int i = 0; i < l->stride; i += 4) {
            const int32_t in0 = narrow[i], in1 = narrow[i + 1], in2 = narrow[i + 2], in3 = narrow[i + 3];
            sum0 += w0[i] * in0 + w0[i + 1] * in1 + w0[i + 2] * in2 + w0[i + 3] * in3;
            sum1 += w1[i] * in0 + w1[i + 1] * in1 + w1[i + 2] * in2 + w1[i + 3] * in3;
            sum2 += w2[i] * in0 + w2[i + 1] * in1 + w2[i + 2] * in2 + w2[i + 3] * in3;
            sum3 += w3[i] * in0 + w3[i + 1] * in1 + w3[i + 2] * in2 + w3[i + 3] * in3;
        }
        const int32_t sums[4] = {sum0, sum1, sum2, sum3};
        for (int k = 0; k < 4 && o + k < l->outputs; ++k)
            y[o + k] = l->bias[o + k] + (value)(((int64_t)sums[k] * l->scale[o + k]) >> (32 - shift));
    }
}

/* x * scale / 2^32 */
static int32_t scaled(uint32_t x, int32_t scale) { return (int32_t)(((int64_t)(int32_t)x * scale) >> 32); }

/* y = bias + scale * (the rows of the weights whose input fired). Four weights, each plus 128, share a word; the halves of
   four words hold the sums of eight outputs for up to 256 rows. All arrays are padded to multiples of eight outputs. */
static void add_rows(const spike_linear *l, const uint16_t *fired, int n, value *y) {
    const uint32_t low = 0x00FF00FFu, high = 0xFFFF0000u;
    int from = 0;
    do {
        const int to = n - from < 256 ? n : from + 256;
        const uint32_t zero = (uint32_t)(128 * (to - from)) << 16;
        const value *before = from == 0 ? l->bias : y;
        for (int o = 0; o < l->outputs; o += 8) {
            const uint32_t *column = l->weight + o / 4;
            const int32_t *scale = l->scale + o;
            uint32_t a = 0, b = 0, c = 0, d = 0;
            for (int i = from; i < to; ++i) {
                const uint32_t *row = column + fired[i] * l->words;
                a += row[0] & low;
                b += (row[0] >> 8) & low;
                c += row[1] & low;
                d += (row[1] >> 8) & low;
            }
            y[o] = before[o] + scaled((a << 16) - zero, scale[0]);
            y[o + 1] = before[o + 1] + scaled((b << 16) - zero, scale[1]);
            y[o + 2] = before[o + 2] + scaled((a & high) - zero, scale[2]);
            y[o + 3] = before[o + 3] + scaled((b & high) - zero, scale[3]);
            y[o + 4] = before[o + 4] + scaled((c << 16) - zero, scale[4]);
            y[o + 5] = before[o + 5] + scaled((d << 16) - zero, scale[5]);
            y[o + 6] = before[o + 6] + scaled((c & high) - zero, scale[6]);
            y[o + 7] = before[o + 7] + scaled((d & high) - zero, scale[7]);
        }
        from = to;
    } while (from < n);
}

/* y = gain (x - mean) / sqrt(variance + eps) + shift. The square root is the only step in floating point. */
static void normalise(const layer_norm *l, const value *x, value *y, int n) {
    int64_t sum = 0, squares = 0;
    for (int j = 0; j < n; ++j) sum += x[j];
    const value mean = (value)(sum / n);
    for (int j = 0; j < n; ++j) squares += (int64_t)(x[j] - mean) * (x[j] - mean);
    const float variance = (float)(squares / n) * (1.0f / 4294967296.0f);
    const int32_t scale = (int32_t)(1048576.0f / sqrtf(variance + l->eps)); /* 2^20 stands for 1 */
    for (int j = 0; j < n; ++j)
        y[j] = multiply((value)(((int64_t)(x[j] - mean) * scale) >> 20), l->gain[j]) + l->shift[j];
}

/* x = factor x 2^(30 - shift) for a factor in [0, 1] */
static void scale_by(value *x, int n, float factor, int shift) {
    const int32_t whole = (int32_t)(factor * 1073741824.0f);
    for (int j = 0; j < n; ++j) x[j] = (value)(((int64_t)x[j] * whole) >> shift);
}

/* 1 / scale, which the running sum of attention adds where a key and a value fire. 2^SUM_BITS stands for 1. */
static value sum_one(float scale) { return (value)((float)(1 << SUM_BITS) / scale); }

/* e^x for x <= 0; 32768 stands for 1. 2^-f for f in [0, 1) is a polynomial that is within 0.0002 of it. */
static int32_t exp_negative(value x) {
    const int64_t power = -(((int64_t)x * 94548) >> 16); /* log2(e) */
    const int32_t whole = (int32_t)(power >> 16), f = (int32_t)(power & 0xFFFF);
    if (whole > 15) return 0;
    return (int32_t)((65536 - multiply(f, 45340 - multiply(f, 15212 - multiply(f, 2647)))) >> (1 + whole));
}

/* tanh x = (1 - e^(-2 |x|)) / (1 + e^(-2 |x|)) with the sign of x */
static value tanh_of(value x) {
    const int32_t e = exp_negative(x < 0 ? 2 * x : -2 * x);
    const value y = ((32768 - e) << 15) / (32768 + e) * 2;
    return x < 0 ? -y : y;
}

/* Replace scores by their softmax; 32768 stands for 1. */
static void soften(value *scores, int n, value most) {
    uint32_t total = 0;
    for (int i = 0; i < n; ++i) total += (uint32_t)(scores[i] = exp_negative(scores[i] - most));
    const int64_t share = (int64_t)((1u << 31) / total); /* total is 32768 at least */
    for (int i = 0; i < n; ++i) scores[i] = (value)((scores[i] * share) >> 16);
}

/* Query times key. */
static value dense_score(const kept *q, const kept *k) {
    int64_t sum = 0;
    for (int j = 0; j < HEAD_WIDTH; ++j) sum += (int32_t)q[j] * k[j];
    return (value)((sum * SCORE_SCALE) >> 20);
}

/* Every spike of the query adds the count of the key. */
static value spike_score(const uint16_t *fired, int n, const kept *k) {
    int32_t sum = 0;
    for (int i = 0; i < n; ++i) sum += k[fired[i]];
    return sum * SCORE_SCALE;
}

/* Keys and values have 16 bits; 1024 stands for 1. */
static kept to_kept(value x) {
    x >>= 6;
    return (kept)(x > 32767 ? 32767 : x < -32768 ? -32768 : x);
}

/* The number for a sum of kept numbers whose weights sum to 1. */
static value mixed(value sum) { return MIXED(sum); }

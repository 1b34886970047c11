/* Numbers are float. A product of an input and a weight is one multiplication, a spike adds weights. */
typedef float value;
typedef struct { const float *weight, *bias; int inputs, stride, outputs; } linear;  /* weight [outputs][stride] */
typedef struct { const float *weight, *bias; int words, outputs; } spike_linear;     /* weight [inputs][words], padded */
typedef struct { const float *gain, *shift; float eps; } layer_norm;
typedef struct { float keep, threshold; } lif;                                       /* keep = 1 - dt / tau_mem */

/* functions */
static value from_float(float x) { return x; }

static float to_float(value x) { return x; }

static value multiply(value a, value b) { return a * b; }

static const value ONE = 1.0f;

/* y = W x + bias. Four outputs at a time, so that an input is read once for four weights. Rows of weights are padded. */
static void affine(const linear *l, const value *x, int16_t *narrow, value *y) {
    (void)narrow;
    for (int o = 0; o < l->outputs; o += 4) {
        const float *w0 = l->weight + o * l->stride, *w1 = w0 + l->stride, *w2 = w1 + l->stride, *w3 = w2 + l->stride;
        float sums[4] = {0};
        for (int i = 0; i < l->inputs; ++i) {
            const float in = x[i];
            sums[0] += w0[i] * in;
            sums[1] += w1[i] * in;
            sums[2] += w2[i] * in;
            sums[3] += w3[i] * in;
        }
        for (int k = 0; k < 4 && o + k < l->outputs; ++k) y[o + k] = l->bias[o + k] + sums[k];
    }
}

/* y = bias + the rows of the weights whose input fired. Eight outputs at a time stay in registers. All arrays are padded
   to multiples of eight outputs. */
static void add_rows(const spike_linear *l, const uint16_t *fired, int n, value *y) {
    for (int o = 0; o < l->outputs; o += 8) {
        const float *column = l->weight + o;
        float sums[8] = {0};
        for (int i = 0; i < n; ++i) {
            const float *row = column + fired[i] * l->words;
            sums[0] += row[0];
            sums[1] += row[1];
            sums[2] += row[2];
            sums[3] += row[3];
            sums[4] += row[4];
            sums[5] += row[5];
            sums[6] += row[6];
            sums[7] += row[7];
        }
        for (int k = 0; k < 8; ++k) y[o + k] = l->bias[o + k] + sums[k];
    }
}

/* y = gain (x - mean) / sqrt(variance + eps) + shift */
static void normalise(const layer_norm *l, const value *x, value *y, int n) {
    float mean = 0, variance = 0;
    for (int j = 0; j < n; ++j) mean += x[j];
    mean /= (float)n;
    for (int j = 0; j < n; ++j) variance += (x[j] - mean) * (x[j] - mean);
    const float scale = 1.0f / sqrtf(variance / (float)n + l->eps);
    for (int j = 0; j < n; ++j) y[j] = (x[j] - mean) * scale * l->gain[j] + l->shift[j];
}

/* x = factor x */
static void scale_by(value *x, int n, float factor, int shift) {
    (void)shift;
    for (int j = 0; j < n; ++j) x[j] *= factor;
}

/* 1 / scale, which the running sum of attention adds where a key and a value fire. */
static value sum_one(float scale) { return 1.0f / scale; }

static value tanh_of(value x) { return tanhf(x); }

/* Replace scores by their softmax. */
static void soften(value *scores, int n, value most) {
    float total = 0;
    for (int i = 0; i < n; ++i) total += scores[i] = expf(scores[i] - most);
    for (int i = 0; i < n; ++i) scores[i] /= total;
}

/* Query times key. */
static value dense_score(const kept *q, const kept *k) {
    float sum = 0;
    for (int j = 0; j < HEAD_WIDTH; ++j) sum += q[j] * k[j];
    return sum * SCORE_SCALE;
}

/* Every spike of the query adds the count of the key. */
static value spike_score(const uint16_t *fired, int n, const kept *k) {
    int sum = 0;
    for (int i = 0; i < n; ++i) sum += k[fired[i]];
    return (float)sum * SCORE_SCALE;
}

static kept to_kept(value x) { return x; }

/* The number for a sum of kept numbers whose weights sum to 1. */
static value mixed(value sum) { return sum; }

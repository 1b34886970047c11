/* One block: x += W_o LIF(attend(LIF(W LIF(x)))), then x += W_2 LIF(W_1 LIF(x)). Every weight matrix reads spikes. */
typedef struct {
    layer_norm norm_in, norm_out, norm_mlp;
    lif lif_in, lif_qkv, lif_out, lif_mlp, lif_hidden;
    spike_linear qkv, out, mlp_in, mlp_out;
    const float *decay;           /* g of each head */
    const float *gain;            /* 1 - g of each head */
} block_weights;

@BLOCKS@
/* S = g S + k^T v and y = (1 - g) q S per head; `fired` lists the spikes of q, k and v one after the other.
   S is stored as `sum * scale`, so that the decay changes one number per head. Only what fires is touched. */
static void attend(const block_weights *w, policy_block *state, const uint16_t *fired, int n, value *y) {
    int k = 0, v = 0;                                 /* where the spikes of k and of v begin */
    while (k < n && fired[k] < WIDTH) ++k;
    for (v = k; v < n && fired[v] < 2 * WIDTH; ++v) {}
    for (int j = 0; j < WIDTH; ++j) y[j] = 0;
    for (int h = 0, q_at = 0, k_at = k, v_at = v; h < HEADS; ++h) {
        value *sum = state->sum + h * HEAD_WIDTH * HEAD_WIDTH;
        const int end = (h + 1) * HEAD_WIDTH;
        float scale = state->scale[h] * w->decay[h];
        if (scale < LEAST_SCALE) {
            scale_by(sum, HEAD_WIDTH * HEAD_WIDTH, scale, 30);
            scale = 1.0f;
        }
        state->scale[h] = scale;
        const value one = sum_one(scale);
        const int v_begin = v_at;
        while (v_at < n && fired[v_at] < 2 * WIDTH + end) ++v_at;
        for (; k_at < v && fired[k_at] < WIDTH + end; ++k_at) {
            value *row = sum + (fired[k_at] - WIDTH - h * HEAD_WIDTH) * HEAD_WIDTH;
            for (int i = v_begin; i < v_at; ++i) row[fired[i] - 2 * WIDTH - h * HEAD_WIDTH] += one;
        }
        const int q_begin = q_at;
        value *out = y + h * HEAD_WIDTH;
        for (; q_at < k && fired[q_at] < end; ++q_at) {
            const value *row = sum + (fired[q_at] - h * HEAD_WIDTH) * HEAD_WIDTH;
            for (int j = 0; j < HEAD_WIDTH; ++j) out[j] += row[j];
        }
        if (q_at > q_begin) scale_by(out, HEAD_WIDTH, w->gain[h] * scale, SUM_BITS + 14);
    }
}

static void run_block(policy_state *s, const block_weights *w, policy_block *state) {
    value *x = s->x, *a = s->a, *b = s->b;
    uint16_t *fired = s->fired;
    int n;
    normalise(&w->norm_in, x, a, WIDTH);
    s->spikes += (uint32_t)(n = fire(&w->lif_in, a, state->v_in, fired, WIDTH));
    add_rows(&w->qkv, fired, n, b);
    s->spikes += (uint32_t)(n = fire(&w->lif_qkv, b, state->v_qkv, fired, 3 * WIDTH));
    attend(w, state, fired, n, a);
    normalise(&w->norm_out, a, b, WIDTH);
    s->spikes += (uint32_t)(n = fire(&w->lif_out, b, state->v_out, fired, WIDTH));
    add_rows(&w->out, fired, n, a);
    for (int j = 0; j < WIDTH; ++j) x[j] += a[j];
    normalise(&w->norm_mlp, x, a, WIDTH);
    s->spikes += (uint32_t)(n = fire(&w->lif_mlp, a, state->v_mlp, fired, WIDTH));
    add_rows(&w->mlp_in, fired, n, b);
    s->spikes += (uint32_t)(n = fire(&w->lif_hidden, b, state->v_hidden, fired, HIDDEN));
    add_rows(&w->mlp_out, fired, n, a);
    for (int j = 0; j < WIDTH; ++j) x[j] += a[j];
}

/* The token of a step: x = (1 + g(R)) LN(W_s s + W_a a) + b(R), where R is the return-to-go. */
static void embed(policy_state *s, float rtg, const value *states) {
    value code[UNITS], *x = s->x, *a = s->a, *b = s->b;
    if (rtg < RTG_LOW) rtg = RTG_LOW;
    if (rtg > RTG_HIGH) rtg = RTG_HIGH;
    const value scaled_rtg = from_float(rtg);
    for (int u = 0; u < UNITS; ++u) code[u] = tanh_of(multiply(scaled_rtg, CODE_SLOPE[u]) + CODE_SHIFT[u]);
    affine(&STATE, states, s->narrow, a);
    @ADD_ACTION@
    normalise(&EMBEDDING_NORM, a, x, WIDTH);
    affine(&GATE, code, s->narrow, b);
    for (int j = 0; j < WIDTH; ++j) x[j] = b[WIDTH + j] + multiply(x[j], ONE + b[j]);
}

/* Predictions from the normalised observation and the scaled return-to-go. */
static void decide(policy_state *s, float rtg, const value *states, value *predictions) {
    embed(s, rtg, states);
    for (int i = 0; i < LAYERS; ++i) run_block(s, &BLOCKS[i], &s->blocks[i]);
    normalise(&HEAD_NORM, s->x, s->a, WIDTH);
    affine(&HEAD, s->a, s->narrow, predictions);
}

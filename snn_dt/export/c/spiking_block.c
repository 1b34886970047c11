/* One block: x += W_o LIF(attend(LIF(W_q s), LIF(W_k s), LIF(W_v s))) with s = LIF(x), then x += W_2 LIF(W_1 LIF(x)).
   A norm precedes every neuron. Every weight matrix reads spikes; keys and values are counts of spikes. */
typedef struct {
    layer_norm norm_in, norm_query, norm_key, norm_value, norm_out, norm_mlp, norm_hidden;
    lif lif_in, lif_query, lif_key, lif_value, lif_out, lif_mlp, lif_hidden;
    spike_linear query, key, value_, out, mlp_in, mlp_out;
@ROUTE_MEMBER@} block_weights;

/* y = softmax(scale q k) v per head over the kept tokens from `first` to `token`; `fired` are the spikes of q. */
static void attend(policy_state *s, const policy_block *state, const uint16_t *fired, int n_fired, int first, int token,
                   value *y) {
    for (int h = 0, at = 0; h < HEADS; ++h) {
        const int n = token - first + 1, begin = first % CAPACITY, from = at;
        value *out = y + h * HEAD_WIDTH, most = 0;
        while (at < n_fired && fired[at] < (h + 1) * HEAD_WIDTH) ++at;
        for (int i = 0, place = begin; i < n; ++i, place = place + 1 < CAPACITY ? place + 1 : 0) {
            s->scores[i] = spike_score(fired + from, at - from, state->keys + place * WIDTH);
            if (i == 0 || s->scores[i] > most) most = s->scores[i];
        }
        soften(s->scores, n, most);
        for (int j = 0; j < HEAD_WIDTH; ++j) out[j] = 0;
        for (int i = 0, place = begin; i < n; ++i, place = place + 1 < CAPACITY ? place + 1 : 0) {
            const kept *v = state->values + place * WIDTH + h * HEAD_WIDTH;
            for (int j = 0; j < HEAD_WIDTH; ++j)
                if (v[j]) out[j] += s->scores[i] * v[j];
        }
        for (int j = 0; j < HEAD_WIDTH; ++j) out[j] = mixed(out[j]);
    }
}
@ROUTE@
/* The spikes of one projection of the spikes `s->fired`. */
static int project(policy_state *s, const spike_linear *w, const layer_norm *norm, const lif *neurons, int n, kept *counts) {
    add_rows(w, s->fired, n, s->b);
    normalise(norm, s->b, s->a, WIDTH);
    n = fire_rate(neurons, s->a, s->fired_next, counts, WIDTH);
    s->spikes += (uint32_t)n;
    return n;
}

/* Keep the key and the value of a token and, unless nothing is read from it, compute its output. */
static void run_block(policy_state *s, const block_weights *w, policy_block *state, int first, int token, int is_read) {
    value *x = s->x, *a = s->a, *b = s->b;
    const int place = token % CAPACITY;
    int n, n_query;
    normalise(&w->norm_in, x, a, WIDTH);
    s->spikes += (uint32_t)(n = fire_rate(&w->lif_in, a, s->fired, 0, WIDTH));
    project(s, &w->key, &w->norm_key, &w->lif_key, n, state->keys + place * WIDTH);
    project(s, &w->value_, &w->norm_value, &w->lif_value, n, state->values + place * WIDTH);
    if (!is_read) return;
    n_query = project(s, &w->query, &w->norm_query, &w->lif_query, n, 0);
    attend(s, state, s->fired_next, n_query, first, token, a);
    @CALL_ROUTE@
    normalise(&w->norm_out, a, b, OUT_WIDTH);
    s->spikes += (uint32_t)(n = fire_rate(&w->lif_out, b, s->fired, 0, OUT_WIDTH));
    add_rows(&w->out, s->fired, n, a);
    for (int j = 0; j < WIDTH; ++j) x[j] += a[j];
    normalise(&w->norm_mlp, x, a, WIDTH);
    s->spikes += (uint32_t)(n = fire_rate(&w->lif_mlp, a, s->fired, 0, WIDTH));
    add_rows(&w->mlp_in, s->fired, n, b);
    normalise(&w->norm_hidden, b, a, HIDDEN);
    s->spikes += (uint32_t)(n = fire_rate(&w->lif_hidden, a, s->fired, 0, HIDDEN));
    add_rows(&w->mlp_out, s->fired, n, a);
    for (int j = 0; j < WIDTH; ++j) x[j] += a[j];
}


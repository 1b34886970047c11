/* One block: x += W_o attend(W_q LN(x), W_k LN(x), W_v LN(x)), then x += W_2 relu(W_1 LN(x)). */
typedef struct {
    layer_norm norm_in, norm_mlp;
    linear query, key_value, out, mlp_in, mlp_out;
} block_weights;

/* y = softmax(scale q k) v per head over the kept tokens from `first` to `token`. */
static void attend(policy_state *s, const policy_block *state, const kept *q, int first, int token, value *y) {
    for (int h = 0; h < HEADS; ++h, q += HEAD_WIDTH, y += HEAD_WIDTH) {
        const int n = token - first + 1, begin = first % CAPACITY;
        value most = 0;
        for (int i = 0, place = begin; i < n; ++i, place = place + 1 < CAPACITY ? place + 1 : 0) {
            s->scores[i] = dense_score(q, state->keys + place * WIDTH + h * HEAD_WIDTH);
            if (i == 0 || s->scores[i] > most) most = s->scores[i];
        }
        soften(s->scores, n, most);
        for (int j = 0; j < HEAD_WIDTH; ++j) y[j] = 0;
        for (int i = 0, place = begin; i < n; ++i, place = place + 1 < CAPACITY ? place + 1 : 0) {
            const kept *v = state->values + place * WIDTH + h * HEAD_WIDTH;
            const value weight = s->scores[i];
            for (int j = 0; j < HEAD_WIDTH; ++j) y[j] += weight * v[j];
        }
        for (int j = 0; j < HEAD_WIDTH; ++j) y[j] = mixed(y[j]);
    }
}

/* Keep the key and the value of a token and, unless nothing is read from it, compute its output. */
static void run_block(policy_state *s, const block_weights *w, policy_block *state, int first, int token, int is_read) {
    value *x = s->x, *a = s->a, *b = s->b;
    const int place = token % CAPACITY;
    normalise(&w->norm_in, x, a, WIDTH);
    affine(&w->key_value, a, s->narrow, b);
    for (int j = 0; j < WIDTH; ++j) {
        state->keys[place * WIDTH + j] = to_kept(b[j]);
        state->values[place * WIDTH + j] = to_kept(b[WIDTH + j]);
    }
    if (!is_read) return;
    affine(&w->query, a, s->narrow, b);
    for (int j = 0; j < WIDTH; ++j) s->query[j] = to_kept(b[j]);
    attend(s, state, s->query, first, token, a);
    affine(&w->out, a, s->narrow, b);
    for (int j = 0; j < WIDTH; ++j) x[j] += b[j];
    normalise(&w->norm_mlp, x, a, WIDTH);
    affine(&w->mlp_in, a, s->narrow, b);
    for (int j = 0; j < HIDDEN; ++j)
        if (b[j] < 0) b[j] = 0;
    affine(&w->mlp_out, b, s->narrow, a);
    for (int j = 0; j < WIDTH; ++j) x[j] += a[j];
}


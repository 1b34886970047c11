@BLOCKS@
/* A token is a return-to-go, a state or an action (or their sum), plus the position of its step. Tokens are numbered from
   the beginning of the episode; token i has place i mod CAPACITY in the rings of keys and values. */
static void run_token(policy_state *s, int token, int is_last) {
    const int step = token / PER_STEP, earliest = (step - SPAN + 1) * PER_STEP;
    @ADD_POSITION@
    normalise(&EMBEDDING_NORM, s->x, s->x, WIDTH);
    for (int i = 0; i < LAYERS; ++i)
        run_block(s, &BLOCKS[i], &s->blocks[i], earliest > 0 ? earliest : 0, token, is_last || i < LAYERS - 1);
}

/* Predictions from the normalised observation and the scaled return-to-go. Only the new tokens are computed. */
static void decide(policy_state *s, float rtg, const value *states, value *predictions) {
    const int step = (int)s->step++;
    value scaled;
    if (rtg < RTG_LOW) rtg = RTG_LOW;
    if (rtg > RTG_HIGH) rtg = RTG_HIGH;
    scaled = from_float(rtg);
    @TOKENS@
    normalise(&HEAD_NORM, s->x, s->a, WIDTH);
    affine(&HEAD, s->a, s->narrow, predictions);
}

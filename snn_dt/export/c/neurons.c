/* h = keep v + current; a neuron with h >= threshold fires. Returns the number of neurons that fire, listed in `fired`. */
static int fire(const lif *l, const value *current, value *v, uint16_t *fired, int n) {
    int count = 0;
    for (int j = 0; j < n; ++j) {
        value h = multiply(l->keep, v[j]) + current[j];
        if (h >= l->threshold) {
            fired[count++] = (uint16_t)j;
            h = AFTER_SPIKE(h, l->threshold);
        }
        v[j] = h;
    }
    ON_SPIKES(fired, count);
    return count;
}

/* Neurons that start at rest and get a constant current for SIM_STEPS steps. A neuron stands in `fired` once per spike. */
static int fire_rate(const lif *l, const value *current, uint16_t *fired, kept *counts, int n) {
    int count = 0;
    for (int j = 0; j < n; ++j) {
        const int before = count;
        value v = 0;
        for (int t = 0; t < SIM_STEPS && current[j] > 0; ++t) {
            v = multiply(l->keep, v) + current[j];
            if (v >= l->threshold) {
                fired[count++] = (uint16_t)j;
                v = AFTER_SPIKE(v, l->threshold);
            }
        }
        if (counts) counts[j] = (kept)(count - before);
    }
    ON_SPIKES(fired, count);
    return count;
}

/* A norm whose gains and shifts depend on the goal of the episode, one row of n for each goal. */
static void normalise_for(int goal, const layer_norm *l, const value *x, value *y, int n) {
    const layer_norm own = {l->gain + goal * n, l->shift + goal * n, l->eps};
    normalise(&own, x, y, n);
}

void policy_init(policy_state *s) { policy_reset(s, POLICY_TARGET_RETURN); }

void policy_reset(policy_state *s, double target_return) {
    unsigned char *bytes = (unsigned char *)s;
    for (unsigned i = 0; i < sizeof *s; ++i) bytes[i] = 0;
    s->return_to_go = target_return;
    @REST@
}

/* The action in units of the environment. */
@ACT@ {
    value states[POLICY_OBSERVATIONS], predictions[POLICY_ACTIONS];
    for (int i = 0; i < POLICY_OBSERVATIONS; ++i)
        states[i] = from_float((float)((observation[i] - STATE_MEAN[i]) * STATE_SCALE[i]));
    s->spikes = 0;
    decide(s, (float)(s->return_to_go / RTG_SCALE), states, predictions);
    s->begun = 1;
    @READ@
}

void policy_observe(policy_state *s, double reward) { @OBSERVE@ }

uint32_t policy_spikes(const policy_state *s) { return s->spikes; }

const uint32_t policy_state_bytes = (uint32_t)sizeof(policy_state);

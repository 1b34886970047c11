/* @ABOUT@
 *
 * One decision:
 *
 *     policy_state state;
 *     policy_init(&state);                       once; the target return is the default
 *     policy_reset(&state, target_return);       at the start of an episode
 *     @CALL@
 *     policy_observe(&state, reward);            after each step of the environment
 *
 * No heap, no operating system, no global state. The source needs sqrtf, tanhf and expf of the C library.
 */
#ifndef POLICY_H
#define POLICY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { POLICY_OBSERVATIONS = @OBSERVATIONS@, POLICY_ACTIONS = @ACTIONS@ };
#define POLICY_TARGET_RETURN @TARGET@

typedef @OBSERVATION_TYPE@ policy_observation;

@STATE@

void policy_init(policy_state *state);
void policy_reset(policy_state *state, double target_return);
@ACT@;
void policy_observe(policy_state *state, double reward);
uint32_t policy_spikes(const policy_state *state); /* of the last decision */
extern const uint32_t policy_state_bytes;

#ifdef __cplusplus
}
#endif

#endif

"""Online reinforcement learning of a stateful spiking policy, on the Crazyflie hover task by default: `snn-dt online`.

| file | contents |
|---|---|
| `config.py`, `config_checks.py` | fields of the command and their allowed values |
| `command.py`, `run.py` | the command line; a run in its folder |
| `task.py` | the environments of a run in one array |
| `hover_trainer.py`, `method.py` | one iteration; what every way to learn offers |
| `replay.py` | learning from recorded flights: TD3, TD3+BC, behaviour cloning, jump start, DAgger |
| `recurrent_ppo.py` | PPO through time |
| `jump_start.py` | flights begun by the guide and finished by the learner; the curriculum |
| `guide.py`, `mlp_guide.py`, `sb3_adapter.py` | the guide: scripted, loaded, or trained by stable-baselines3 |
| `td3.py` | the updates of `replay.py` |
| `actor_critic.py`, `heterogeneous_lif.py` | networks; the neuron with learned constants |
| `buffer.py` | sequences for training |
| `score.py`, `saved.py` | evaluation flights; actors on disk |
| `crazyflie.py`, `crazyflie_model.py` | the environment and its physics |
| `crazyflie_controller.py`, `flight_figure.py` | the scripted controller; drawing |

Importing this package registers `snn_dt/CrazyflieHover-v0` with Gymnasium.
"""

from __future__ import annotations

from snn_dt.data.registration import register

register()

"""Online reinforcement learning of a stateful spiking policy on the Crazyflie hover task: `snn-dt online`.

| file | contents |
|---|---|
| `config.py`, `config_checks.py` | fields of the command and their allowed values |
| `command.py`, `run.py` | the command line; a run in its folder |
| `hover_trainer.py` | one iteration: fly, update, evaluate |
| `jump_start.py` | flights begun by the guide and finished by the learner; the curriculum |
| `guide.py` | the guide: an MLP trained by TD3 or the scripted controller |
| `td3.py` | TD3, TD3+BC and behaviour cloning on sequences |
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

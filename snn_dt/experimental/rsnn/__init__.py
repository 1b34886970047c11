"""Recurrent spiking networks on small tasks: `snn-dt rsnn`.

The learning rule is BPTT, e-prop or a reward-modulated Hebbian rule.

| file | contents |
|---|---|
| `config.py`, `checks.py` | fields of the command and their allowed values |
| `command.py`, `run.py` | the command line; a run in its folder |
| `trainer.py`, `learning_rules.py` | the training loop; updates from a gradient or a reward |
| `tasks.py` | pattern generation; evidence accumulation; classification of spike trains |
| `recurrent.py`, `spiking_network.py`, `build_network.py` | neurons; network; construction from a config |
| `rates.py`, `penalties.py` | firing rates and their losses; regularisation of activity |
| `hebbian.py`, `topology.py` | reward-modulated Hebbian learning; pruning and growth of connections |
| `figure.py` | training curves |
"""

"""Online fine-tuning of a return-conditioned model in its environment: `snn-dt finetune`.

| file | contents |
|---|---|
| `config.py` | fields of the command and their allowed values |
| `command.py`, `run.py` | the command line; a run in its folder |
| `finetune_loop.py` | one iteration: gather episodes and update |
| `explore.py` | episodes of a policy with exploration noise |
| `replay_buffer.py` | new episodes as a dataset; windows and transitions of any dataset |
| `return_range.py` | the range of returns-to-go that a model tells apart |
| `update.py` | the update: online Decision Transformer with an optional critic |
"""

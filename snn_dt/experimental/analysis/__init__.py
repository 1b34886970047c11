"""Analysis of gradients over surrogate slopes, layers and time: `snn-dt analyse`.

| file | contents |
|---|---|
| `command.py`, `eprop_command.py` | the subcommands `gradients`, `stability` and `eprop` |
| `batches.py`, `files.py` | batches and loss of a trained checkpoint; result files |
| `gradients.py` | size and direction of each layer's gradient over the surrogate's slope |
| `stability.py`, `jacobian.py`, `membrane_recorder.py` | growth and decay of a change of the neuron's state over time |
| `eprop_gradients.py` | e-prop's gradient of a model against that of BPTT |
| `recurrence.py` | the same of recurrent weights, over the strength of the recurrence |
| `analysis_figures.py` | figures |
"""

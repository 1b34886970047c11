"""Analysis of gradients by surrogate slope, layer and time: `snn-dt analyse`.

| file | contents |
|---|---|
| `command.py`, `eprop_command.py` | the subcommands |
| `batches.py`, `files.py` | batches and loss of a trained checkpoint; result files |
| `gradients.py` | size and direction of each layer's gradient over the surrogate's slope |
| `stability.py`, `jacobian.py` | growth and decay of a change of the neuron's state over time |
| `membrane_recorder.py` | the recorder of membranes that they use |
| `eprop_gradients.py` | e-prop's gradient of a model against that of BPTT |
| `recurrence.py` | the same for recurrent weights by the strength of the recurrence |
| `analysis_figures.py` | figures |
"""

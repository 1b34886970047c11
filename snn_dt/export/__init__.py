"""Policies outside Python: C for microcontrollers, torch.export, ONNX and NIR. `snn-dt export` is the command."""

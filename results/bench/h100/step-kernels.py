"""A train step, kernel after kernel and recorded: wall time, time the GPU is busy, number of kernels. As it was run at
commit 977cb77: `PYTHONPATH=. python results/bench/h100/step-kernels.py` in the root of the repository."""

import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

from snn_dt.config import ModelConfig, TrainConfig
from snn_dt.models import TaskShape, build_model
from snn_dt.training.gradient import make_gradient
from snn_dt.training.optimizer import make_optimizer
from snn_dt.training.state import TrainingState

sys.path.insert(0, "scripts/bench")
import model as bm


def wall(f, n=30):
    for _ in range(8):
        f()
    torch.cuda.synchronize()
    t = time.perf_counter()
    for _ in range(n):
        f()
    torch.cuda.synchronize()
    return (time.perf_counter() - t) / n * 1e3


def stepper(name, graph):
    config = ModelConfig(d_model=128, n_layers=3, n_heads=1, context_length=20, **bm.OURS[name])
    model = build_model(config, TaskShape(11, 3, False, 1000, (-1.0,) * 3, (1.0,) * 3)).cuda()
    inputs, train = bm.window(64, "cuda"), TrainConfig(cuda_graph=graph)
    optimizer = make_optimizer(train, model)
    gradient, parameters = make_gradient(train, model, TrainingState(optimizer)), list(model.parameters())
    valid = inputs[4].sum()

    def step():
        _, grads = gradient(*inputs, valid)
        for p, x in zip(parameters, grads):
            p.grad = x
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


for name in ("dense", "snn_dt", "snn_dt spikes", "dsformer_pssa"):
    for graph in (False, True):
        step = stepper(name, graph)
        w = wall(step)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
            for _ in range(3):
                step()
            torch.cuda.synchronize()
        averages = prof.key_averages()
        busy = sum(e.self_device_time_total for e in averages) / 3e3
        n = sum(e.count for e in averages if e.self_device_time_total > 0) / 3
        print(name, "recorded" if graph else "eager", "wall %.2f ms busy %.2f ms kernels %.0f" % (w, busy, n))
        if graph:
            print(averages.table(sort_by="self_cuda_time_total", row_limit=14, max_name_column_width=70))

"""Model rows of the benchmark: a train step, a decision, a block, against the peers' Decision Transformers.

    python scripts/bench/model.py [--quick] [--device cuda] [--threads 1] [--peers-python PYTHON]

PYTHON is that of a venv made with `pip install torch==2.13.0 transformers==5.23.0 d3rlpy==2.8.1`. Size: state 11,
action 3, K = 20, d = 128, 3 layers, 1 head, batch 64; each side with its own defaults (the peers have dropout 0.1, ours
none; the rows marked "no dropout" have none on either side). Model only: no sampling, no environment. Two threads and
wall time, but for blocks: one thread and CPU time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection
from typing import Any

from worker import Worker, interleave, row, serve

STATE, ACTION, CONTEXT, WIDTH, LAYERS, BATCH = 11, 3, 20, 128, 3, 64
PEERS = ("Hugging Face", "d3rlpy")
OURS: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense"},
    "snn_dt": {"kind": "snn_dt"},
    "snn_dt spikes": {"kind": "snn_dt", "coding": "spikes"},
    "dsformer_pssa": {"kind": "dsformer_pssa", "norm_transition": 0},  # as it is but for its first updates
}
SPAN = {"attention_span": CONTEXT, "context_length": 2 * CONTEXT}
OURS |= {f"{kind} span": OURS[kind] | SPAN for kind in ("dense", "snn_dt")}
TRAINED = ("dense", "snn_dt", "dsformer_pssa")
DECIDING = ("dense", "snn_dt", "dense span", "snn_dt span", *PEERS)


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None, threads: int = 2) -> list[dict[str, Any]]:
    """Measure and return the rows of the table."""
    rounds = 5 if quick else 15
    ours, block = (Worker(sys.executable, __file__, n, "--device", device) for n in (threads, 1))
    peers = Worker(peers_python, __file__, threads, "--device", device) if peers_python else None
    sides = [(name, ours) for name in OURS] + [(name, peers) for name in PEERS if peers]

    def measure(names: Collection[str], *request: Any) -> dict[str, list[float]]:
        return interleave([(name, worker, (name, *request)) for name, worker in sides if name in names], rounds)

    def best(times: dict[str, list[float]]) -> tuple[str | None, list[float] | None]:
        names = [name for name in PEERS if name in times]
        name = min(names, key=lambda n: sorted(times[n])[len(times[n]) // 2], default=None)
        return name, times[name] if name else None

    found = []
    try:
        step = measure([*TRAINED, *PEERS], "step", BATCH, None)
        for name in PEERS:
            found.append(row("train step, dense", step["dense"], name, step.get(name), most=0.65))
        found.append(row("train step, snn_dt rate T = 4", step["snn_dt"], "our dense", step["dense"], most=1.2))
        pssa = step["dsformer_pssa"]
        found.append(row("train step, dsformer_pssa T = 4, merged tokens", pssa, "our dense", step["dense"], most=1.7))
        plain = measure(["dense", *PEERS], "step", BATCH, 0.0)
        found.append(row("train step, dense, no dropout on either side", plain["dense"], *best(plain)))
        decision = measure(DECIDING, "decision", 1, None)
        found.append(row("one decision, dense", decision["dense"], *best(decision), most=0.5))
        found.append(row("one decision, snn_dt rate T = 4", decision["snn_dt"], *best(decision), most=0.85))
        kept = f"with kept keys and values of {CONTEXT} steps"
        for kind, most in (("dense", 0.1), ("snn_dt", 0.15)):
            found.append(row(f"one decision, {kind} {kept}", decision[f"{kind} span"], *best(decision), most=most))
        many = measure(DECIDING, "decision", 32, None)
        found.append(row("32 decisions at once, dense", many["dense"], *best(many), least=2.5))
        found.append(row("32 decisions at once, snn_dt rate T = 4", many["snn_dt"], *best(many), least=2.0))
        for kind in ("dense", "snn_dt"):
            work = f"32 decisions at once, {kind} {kept}"
            found.append(row(work, many[f"{kind} span"], *best(many), least=10.0))
        blocks = interleave([(kind, block, (kind, "block", BATCH, None)) for kind in list(OURS)[:3]], rounds)
        for name, label, most in (("snn_dt", "rate", 1.15), ("snn_dt spikes", "spikes", 3.5)):
            work = f"block, snn_dt {label} T = 4"
            found.append(row(work, blocks[name], "our dense block", blocks["dense"], most=most))
    finally:
        for worker in (ours, block, peers):
            if worker:
                worker.close()
    return found


class Side:
    """Builds each variant once and times it."""

    def __init__(self, device: str) -> None:
        self.device, self.built = device, {}

    def __call__(self, name: str, work: str, batch: int, dropout: float | None) -> float:
        """Return milliseconds of one call (the mean of a few for short ones)."""
        import torch

        key = (name, work, batch, dropout)
        if key not in self.built:
            make = {"Hugging Face": hugging_face, "d3rlpy": d3rlpy}.get(name) or (lambda *a: ours(name, *a))
            self.built[key] = make(work, batch, dropout, self.device)
            for _ in range(25 if self.device == "cuda" else 0):  # ours records its kernels at the 21st decision
                self.built[key]()
        call = self.built[key]
        repeats = {"step": 2, "decision": 20 if batch == 1 else 5, "block": 3}[work]
        one_thread = torch.get_num_threads() == 1 and self.device == "cpu"
        clock = time.process_time if one_thread else time.perf_counter
        if self.device == "cuda":
            torch.cuda.synchronize()
        begin = clock()
        for _ in range(repeats):
            call()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return 1000 * (clock() - begin) / repeats


def window(batch: int, device: str) -> tuple[Any, ...]:
    """Return rtg, states, actions, timesteps, mask of full windows."""
    import torch

    g = torch.Generator().manual_seed(0)
    shapes = [(batch, CONTEXT, 1), (batch, CONTEXT, STATE), (batch, CONTEXT, ACTION)]
    rtg, states, actions = (torch.randn(shape, generator=g).tanh().to(device) for shape in shapes)
    timesteps = torch.arange(100, 100 + CONTEXT).expand(batch, CONTEXT).contiguous().to(device)
    return rtg, states, actions, timesteps, torch.ones(batch, CONTEXT, dtype=torch.bool, device=device)


def ours(name: str, work: str, batch: int, dropout: float | None, device: str) -> Callable[[], Any]:
    """Return one train step, decision or block of ours."""
    import torch

    from snn_dt.config import ModelConfig, TrainConfig
    from snn_dt.evaluation.decide import make_decider
    from snn_dt.models import TaskShape, build_model
    from snn_dt.models.tokens import Tokens, causal_mask
    from snn_dt.training.gradient import make_gradient
    from snn_dt.training.state import TrainingState, make_optimizer

    heads = 4 if work == "block" else 1
    config = ModelConfig(
        **{"d_model": WIDTH, "n_layers": LAYERS, "n_heads": heads, "context_length": CONTEXT, **OURS[name]}
    )
    task = TaskShape(STATE, ACTION, False, 1000, (-1.0,) * ACTION, (1.0,) * ACTION)
    model = build_model(config, task).to(device)
    inputs = window(batch, device)
    if work == "decision":
        decider = make_decider(model.eval())
        if model.attention_span is not None:
            inputs = inputs[0][:, -1], inputs[1][:, -1], model.rest(batch)  # the rings are full after the first round

        def decide() -> None:
            with torch.inference_mode():
                decider(*inputs)

        return decide
    if work == "block":
        steps = (config.sim_steps,) if name == "snn_dt spikes" else ()
        x = torch.randn(*steps, batch, 3 * CONTEXT, WIDTH, device=device, requires_grad=True)
        real = torch.ones(batch, 3 * CONTEXT, dtype=torch.bool, device=device)
        tokens = Tokens(real, causal_mask(real))
        grad, block = torch.randn_like(x), model.blocks[0]
        return lambda: torch.autograd.grad(block(x, tokens), [x, *block.parameters()], grad)
    config, optimizer = TrainConfig(), make_optimizer(TrainConfig(), model)
    gradient, parameters = make_gradient(config, model, TrainingState(optimizer)), list(model.parameters())
    valid, progress = inputs[4].sum(), torch.zeros((), device=device)

    def step() -> None:
        _, grads = gradient(*inputs, valid, progress)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        torch.nn.utils.clip_grad_norm_(parameters, 0.25)
        optimizer.step()

    return step


def hugging_face(work: str, batch: int, dropout: float | None, device: str) -> Callable[[], Any]:
    """Return a train step or decision of transformers' DecisionTransformerModel."""
    import torch
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    options = {} if dropout is None else dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    config = DecisionTransformerConfig(
        state_dim=STATE, act_dim=ACTION, hidden_size=WIDTH, n_layer=LAYERS, n_head=1, max_ep_len=1000, **options
    )
    model = DecisionTransformerModel(config).to(device)
    rtg, states, actions, timesteps, mask = window(batch, device)

    def forward() -> Any:
        return model(
            states=states,
            actions=actions,
            rewards=rtg,
            returns_to_go=rtg,
            timesteps=timesteps,
            attention_mask=mask.long(),
            return_dict=False,
        )[1]

    if work == "decision":
        model.eval()

        def decide() -> None:
            with torch.inference_mode():
                forward()

        return decide
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        ((forward() - actions) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()

    return step


def d3rlpy(work: str, batch: int, dropout: float | None, device: str) -> Callable[[], Any]:
    """Return a train step or decision of d3rlpy's DecisionTransformer, as its reproduction script sets it up."""
    import torch
    from d3rlpy.algos import DecisionTransformerConfig
    from d3rlpy.models import VectorEncoderFactory
    from d3rlpy.optimizers import AdamWFactory, GPTAdamWFactory  # noqa: F401
    from d3rlpy.torch_utility import TorchTrajectoryMiniBatch

    options = {} if dropout is None else dict.fromkeys(("attn_dropout", "resid_dropout", "embed_dropout"), dropout)
    algorithm = DecisionTransformerConfig(
        encoder_factory=VectorEncoderFactory([WIDTH], exclude_last_activation=True),
        optim_factory=AdamWFactory(weight_decay=1e-4, clip_grad_norm=0.25),
        context_size=CONTEXT,
        max_timestep=1000,
        num_layers=LAYERS,
        num_heads=1,
        batch_size=batch,
        **options,
    ).create(device=device if device == "cpu" else "cuda:0")
    algorithm.create_impl((STATE,), ACTION)
    rtg, states, actions, timesteps, mask = window(batch, device)
    if work == "decision":
        transformer = algorithm.impl.modules.transformer.eval()

        def decide() -> None:
            with torch.inference_mode():
                transformer(states, actions, rtg, timesteps, 1 - mask.float())

        return decide
    algorithm.impl.modules.set_train()
    data = TorchTrajectoryMiniBatch(
        observations=states,
        actions=actions,
        rewards=rtg,
        returns_to_go=rtg,
        terminals=torch.zeros_like(rtg),
        timesteps=timesteps,
        masks=mask.float(),
        device=device,
    )
    return lambda: algorithm.impl.inner_update(data, 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peers-python")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2, choices=(1, 2))
    arguments = parser.parse_args()
    if arguments.serve:
        import torch

        torch.set_num_threads(arguments.threads)
        serve(Side(arguments.device))
    else:
        for one in rows(arguments.quick, arguments.device, arguments.peers_python, arguments.threads):
            print(json.dumps(one))

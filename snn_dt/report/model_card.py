"""The model card of a checkpoint: what it is, what it was trained on, what it returned, how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from snn_dt import hub, io
from snn_dt.checkpoint import find_checkpoint, from_pretrained
from snn_dt.errors import CheckpointError
from snn_dt.evaluation.policy import Policy

ROW = ("env_id", "target_return", "episodes", "seed", "return_mean", "return_interval", "energy_pj_per_decision")
"""Entries that a card takes from each row of `snn-dt evaluate --json`."""


def push(
    folder: str | Path,
    repo: str,
    *,
    evaluation: str | Path | None = None,
    licence: str = "mit",
    private: bool = False,
) -> str:
    """Publish a checkpoint or the last checkpoint of a run as `user/name` on the hub. Returns its address.

    The checkpoint is loaded first, so a damaged one is not published. Weights and card are one commit.

    Args:
        folder: checkpoint or run folder.
        repo: `user/name`; made if it is missing.
        evaluation: output of `snn-dt evaluate --json`. None takes `evaluation.json` in `folder` if it is there.
        licence: short name of the licence, as the hub writes it.
        private: make a new repository private.

    Raises:
        CheckpointError: checkpoint or evaluation cannot be read, or the hub refuses.
    """
    own = Path(folder) / "evaluation.json"
    rows = read_evaluation(Path(evaluation or own)) if evaluation or io.is_file(own) else []
    checkpoint = find_checkpoint(Path(folder))
    card = model_card(from_pretrained(checkpoint), repo, rows, licence)
    files: dict[str, Path | bytes] = {name: checkpoint / name for name in hub.FILES}
    return hub.upload(repo, files | {"README.md": card.encode()}, f"Checkpoint of snn_dt: {repo}", private)


def read_evaluation(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an output of `snn-dt evaluate --json`.

    Raises:
        CheckpointError: it is none.
    """
    try:
        rows = io.read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected the output of snn-dt evaluate --json in {path}, found: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(ROW) for row in rows):
        raise CheckpointError(
            f"expected rows with {', '.join(ROW)} in {path}, found others; write it with snn-dt evaluate --json"
        )
    return rows


def model_card(policy: Policy, repo: str, rows: Sequence[Mapping[str, Any]] = (), licence: str = "mit") -> str:
    """Return the card of a policy as Markdown with the hub's YAML header.

    Args:
        policy: the loaded checkpoint.
        repo: `user/name` that the card tells how to load.
        rows: evaluations, see `ROW`.
        licence: short name of the licence.
    """
    model: Any = policy.model
    spec, config, facts = policy.spec, model.config, policy.provenance
    spiking = config.kind != "dense"
    env = f"`{spec.env_id}`" if spec.env_id else "an environment that the data do not name"
    header: dict[str, Any] = {
        "library_name": "snn-dt",
        "license": licence,
        "pipeline_tag": "reinforcement-learning",
        "tags": ["offline-reinforcement-learning", "decision-transformer", *["spiking-neural-network"] * spiking],
    }
    if rows:
        header["model-index"] = [{"name": repo.partition("/")[2], "results": [_result(row) for row in rows]}]
    text = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {repo.partition('/')[2]}\n",
        f"A return-conditioned policy of kind `{config.kind}` for {env}, learned offline from the dataset "
        f"`{spec.dataset_id}` with snn_dt. It acts at a target return that you choose.\n",
        "## Load\n",
        f'```python\n# pip install "snn-dt[hub]"\nimport snn_dt\n\npolicy = snn_dt.from_pretrained("{repo}")\n'
        f"policy.reset(target_return={spec.target_return:g})\n```\n",
        f"`snn-dt evaluate --checkpoint {repo}` rolls it out. Loading runs nothing that the files name.\n",
    ]
    if rows:
        text += ["## Returns\n", _returns(rows), ""]
    parameters = sum(x.numel() for x in model.parameters())
    shape = f"{config.n_layers} layers, width {config.d_model}, {config.n_heads} heads, context {config.context_length}"
    described: dict[str, str] = {
        "model": f"{config.kind}: {shape}, {parameters:,} parameters",
        "dataset": f"`{spec.dataset_id}`, checksum `{str(facts.get('dataset_checksum') or 'unknown')[:16]}`",
        "returns in the data": _quantiles(facts.get("dataset_return_quantiles")),
        "rewards": {"delayed": "delayed: all at the end of an episode", "clipped": "clipped to -1 to 1"}.get(
            "delayed" if spec.delayed else str(facts.get("reward_mode")), "as recorded"
        ),
        **{
            name: f"`{facts[name]}`" for name in ("seed", "step", "command", "commit", "imported_from") if name in facts
        },
        "versions": ", ".join(f"{name} {found}" for name, found in (facts.get("versions") or {}).items() if found),
    }
    text += ["## Model and data\n", "".join(f"- {name}: {value}\n" for name, value in described.items())]
    text.append(
        "Energy is an estimate: operations of the whole network times 45 nm constants, without memory traffic. Between "
        "returns that the data hold, the achieved return need not match the target.\n"
    )
    return "\n".join(text)


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of the hub's `model-index`."""
    env = str(row["env_id"])
    return {
        "task": {"type": "reinforcement-learning"},
        "dataset": {"name": env, "type": env},
        "metrics": [
            {
                "type": "mean_reward",
                "name": f"mean return at target {row['target_return']:g}, {row['episodes']} episodes",
                "value": float(row["return_mean"]),
            }
        ],
    }


def _returns(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        low, high = row["return_interval"] or (None, None)
        interval = "" if low is None else f"{low:,.1f} to {high:,.1f}"
        energy = row["energy_pj_per_decision"]
        counted = "not counted" if energy is None else f"{energy / 1e6:.3g}"
        score = row.get("normalized_score")
        rate, bounds = row.get("success_rate"), row.get("success_interval") or (0.0, 1.0)
        success = "" if rate is None else f"{rate:.0%} ({bounds[0]:.0%} to {bounds[1]:.0%})"
        cells.append([
            f"{row['target_return']:g}", f"{row['return_mean']:,.1f}", interval,
            "" if score is None else f"{score:,.1f}", success, str(row["episodes"]), str(row["seed"]), counted,
        ])  # fmt: skip
    head = ("target return", "mean return", "95 %", "score", "success", "episodes", "first seed")
    return table((*head, "energy per decision, uJ"), cells)


def _quantiles(values: Any) -> str:
    if not isinstance(values, list) or not values:
        return "unknown"
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0, 0.5, 1])
    return f"lowest {low:g}, median {middle:g}, highest {high:g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. All columns but the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

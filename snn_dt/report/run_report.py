"""Report of an evaluation: evaluation.json, figures and an HTML page with results and conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from numpy.typing import ArrayLike

from snn_dt import io, jsonl
from snn_dt.energy import by_part
from snn_dt.errors import CheckpointError
from snn_dt.evaluation.calibration import Calibration, calibration, summary
from snn_dt.report import figures, spikes
from snn_dt.report.facts import Parts, Rows, RunFacts, numbers
from snn_dt.report.html import Code, Facts, Folded, Part, Picture, Table, Text, number, write_report
from snn_dt.report.style import png


def write_run_report(
    run_dir: Path,
    evaluations: Rows,
    out_dir: Path,
    raster: Mapping[str, ArrayLike] | None = None,
    data_returns: ArrayLike | None = None,
    gates: Mapping[str, ArrayLike] | None = None,
    command: str = "",
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write evaluation.json, the figures (PNG) and report.html to `out_dir`. Return the path of the page.

    With three targets or more calibration.json is written too. A part is omitted if its file has unexpected content.

    Args:
        run_dir: a run or checkpoint folder. Parts of missing files (metrics, config, provenance) are omitted.
        evaluations: one or more rows from `snn-dt evaluate --json`, one per target return.
        out_dir: created if missing. Existing files are replaced.
        raster: layer to `[decisions * T, neurons]` spikes (`snn_dt.evaluation.raster.record_raster`).
        data_returns: `[E]` episode returns of the training data.
        gates: layer to `[decisions, H]` gates of dendritic routing (`snn_dt.evaluation.raster.record_gates`).
        command: the command of the evaluation. The command of the training is in the provenance.
        say: called with a one-line warning if a part is omitted.

    Raises:
        CheckpointError: `out_dir` cannot be written.
    """
    if not evaluations:
        raise ValueError("expected at least one evaluation row, found none")
    parts = Parts()
    run = RunFacts(run_dir, parts)
    # Everything is rendered before anything is written, so a warning can name what is missing.
    data = None if data_returns is None else parts.made("returns of the data", lambda: numbers(data_returns))
    found = parts.made("calibration", lambda: calibration(evaluations, data))
    pictures = _pictures(run, evaluations, raster or {}, gates or {}, data, parts)
    sections = _sections(run, evaluations, found, pictures, command, parts)
    title = parts.made("title", lambda: run.title(evaluations)) or "evaluation"
    if parts.left_out and say is not None:
        say(f"warning: the report leaves out {', '.join(parts.left_out)}")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        io.write_atomically(out_dir / "evaluation.json", jsonl.dumps(list(evaluations), indent=2) + "\n")
        for name, picture in pictures.items():
            io.write_atomically(out_dir / f"{name}.png", picture.png)
        if found is not None:
            io.write_atomically(out_dir / "calibration.json", jsonl.dumps(asdict(found), indent=2) + "\n")
        write_report(out_dir / "report.html", title, sections, parts.made("run", run.about) or "")
    except OSError as error:
        raise CheckpointError(
            f"expected to write a report to {out_dir}, found: {error.strerror}; free space or choose another folder"
        ) from error
    return out_dir / "report.html"


def _pictures(
    run: RunFacts,
    evaluations: Rows,
    raster: Mapping[str, ArrayLike],
    gates: Mapping[str, ArrayLike],
    data: ArrayLike | None,
    parts: Parts,
) -> dict[str, Picture]:
    first = evaluations[0]
    target, rates = f"{first['target_return']:g}", first.get("firing_rates") or {}
    pictures: dict[str, Picture] = {}

    def draw(name: str, figure: Callable[[], Any], caption: str, width: int) -> None:
        if picture := parts.made(name.replace("_", " "), lambda: png(figure())):
            pictures[name] = Picture(picture, caption, width)

    levels = parts.made("reference scores", lambda: run.reference(evaluations))
    draw(
        "return_vs_target",
        lambda: figures.return_vs_target(evaluations, data, levels, str(run.model.get("kind") or "")),
        "Achieved return over target return; below, how many episodes of the data have this return.",
        560,
    )
    if rates:
        caption = f"Firing rate of each layer over all decisions at target {target}."
        draw("firing_rates", lambda: spikes.firing_rates(rates, first.get("firing_rate")), caption, 680)
    if raster:
        # A streaming model has one simulation step per decision.
        stream = run.model.get("kind") == "snn_dt_stream"
        caption = f"Spikes at the token of the action, over the first decisions of an episode at target {target}."
        draw(
            "spike_raster",
            lambda: spikes.spike_raster(raster, 1 if stream else int(run.model.get("sim_steps", 1))),
            caption,
            900,
        )
    if gates:
        caption = f"Gates of dendritic routing over the first decisions of an episode at target {target}."
        draw("routing_gates", lambda: spikes.routing_gates(gates), caption, 680)
    if any(isinstance(row.get("loss"), float) for row in run.metrics):
        caption = "Training, from metrics.jsonl. Bands are 95 % intervals."
        draw("learning_curve", lambda: figures.learning_curve(run.metrics), caption, 900)
    return pictures


def _sections(
    run: RunFacts,
    evaluations: Rows,
    found: Calibration | None,
    pictures: Mapping[str, Picture],
    command: str,
    parts: Parts,
) -> list[tuple[str, list[Part]]]:
    first = evaluations[0]
    conditions = (
        f"{first.get('env_id')}, {first.get('episodes')} episodes per target return, reset seeds from "
        f"{first.get('seed')}. Scores 0 and 100: {first.get('score_reference') or 'no reference known'}. Counts are of "
        "the whole network, for one decision in one environment."
    )
    if "num_envs" in first:  # older rows do not say how actions were computed
        conditions += (
            f" Decided by {first.get('decided_by')} with num_envs {first['num_envs']}, meter_every "
            f"{first.get('meter_every')}, {first.get('threads')} threads and kernel {first.get('kernel')}. Other "
            "settings change decisions by rounding."
        )
    drawn: list[Part] = [pictures["return_vs_target"]] if "return_vs_target" in pictures else []
    told = any(row.get("success_rate") is not None for row in evaluations)
    columns = RETURNS | SUCCESS if told else RETURNS
    results = parts.listed("table of results", lambda: [_table(evaluations, columns)])
    calibrated: list[Part] = [] if found is None else [Text(f"{summary(found).capitalize()}.")]
    sections: list[tuple[str, list[Part]]] = [("Returns", [*results, *calibrated, *drawn, Text(conditions)])]
    if first.get("spikes_per_decision") is not None:
        counts = parts.listed("table of counts", lambda: [_table(evaluations, COUNTS)])
        sections.append(("Spikes and operations of one decision", counts))
    spiking: list[Part] = [
        pictures[name] for name in ("firing_rates", "spike_raster", "routing_gates") if name in pictures
    ]
    if first.get("layer_flags"):
        flags = ", ".join(f"{layer} is {flag}" for layer, flag in first["layer_flags"].items())
        spiking.append(Text(f"Layers that pass on almost no information: {flags}."))
    if spiking:
        sections.append(("Spikes", spiking))
    if first.get("by_module"):
        sections.append(("Energy", parts.listed("energy", lambda: _energy(first))))
    if "learning_curve" in pictures:
        sections.append(("Training", [pictures["learning_curve"]]))
    # Training first, then evaluation.
    commands = "\n".join(line for line in (run.command, command) if line)
    origin: list[Part] = [Code(commands)] if commands else []
    if run.provenance:
        origin.append(Folded("provenance", Facts(run.provenance)))
    if run.config:
        origin += parts.listed(
            "config", lambda: [Folded("resolved config", Code(yaml.safe_dump(run.config, sort_keys=False)))]
        )
    return [*sections, ("Provenance", origin)] if origin else sections


Columns = dict[str, Callable[[Mapping[str, Any]], Any]]
RETURNS: Columns = {
    "target": lambda row: row["target_return"],
    "return": lambda row: row["return_mean"],
    "95 % interval": lambda row: " to ".join(number(end) for end in row.get("return_interval") or ()),
    "score": lambda row: row.get("normalized_score"),
    "std": lambda row: row.get("return_std"),
}
SUCCESS: Columns = {
    "success": lambda row: _percent(row.get("success_rate")),
    "95 % of success": lambda row: " to ".join(_percent(end) or "" for end in row.get("success_interval") or ()),
}
COUNTS: Columns = {
    "target": lambda row: row["target_return"],
    "spikes": lambda row: row.get("spikes_per_decision"),
    "firing rate": lambda row: row.get("firing_rate"),
    "MACs": lambda row: row.get("macs_per_decision"),
    "ACs": lambda row: row.get("acs_per_decision"),
    "energy, nJ": lambda row: _nano(row.get("energy_pj_per_decision")),
    "of cached DT": lambda row: _percent(row.get("energy_vs_cached_dt")),
    "of dense": lambda row: _percent(row.get("energy_vs_same_tokens")),
    "of DT": lambda row: _percent(row.get("energy_vs_dt")),
    "decisions/s": lambda row: row.get("decisions_per_second"),
}


def _table(evaluations: Rows, columns: Columns) -> Table:
    return Table(list(columns), [[read(row) for read in columns.values()] for row in evaluations])


def _energy(row: Mapping[str, Any]) -> list[Part]:
    """Return the energy of one decision by part and by module, compared with the baselines."""
    total = row["energy_pj_per_decision"]
    conditions = (
        f"One decision at target {row['target_return']:g}, with {number(row['context_steps'])} steps of context on "
        f"average, takes {number(total / 1000)} nJ ({row['energy_constants']}). This is {_cached(row)}"
        f"{_percent(row['energy_vs_same_tokens'])} of a dense model with the same tokens and "
        f"{_percent(row['energy_vs_dt'])} of a Decision Transformer with three tokens per step. These two recompute "
        "their window. All baselines have the same width and depth and are counted by the same rules on the same "
        "contexts. Memory traffic is not "
        f"included: at least {number(row['memory_bytes_per_decision'] / 1000)} kB, "
        f"{number(row['memory_pj_per_decision'] / 1000)} nJ."
    )
    columns = {
        **{"MACs": "macs", "ACs": "acs", "neuron updates": "neuron_updates", "spikes": "spikes"},
        **{"weights, B": "parameter_bytes", "state, B": "state_bytes", "traffic, B": "memory_bytes"},
    }

    def table(modules: Mapping[str, Mapping[str, float]]) -> Table:
        rows = [
            [name, *(m[key] for key in columns.values()), m["energy_pj"] / 1000, _percent(m["energy_pj"] / total)]
            for name, m in modules.items()
        ]
        return Table(["module", *columns, "energy, nJ", "share"], rows)

    return [
        Text(conditions),
        table(by_part(row["by_module"])),
        Folded("by module", table(row["by_module"])),
    ]


def _nano(pico: float | None) -> float | None:
    return None if pico is None else pico / 1000


def _cached(row: Mapping[str, Any]) -> str:
    """Return the comparison with the cached baseline, which evaluations before 2026-12 lack."""
    share = row.get("energy_vs_cached_dt")
    return "" if share is None else f"{_percent(share)} of a Decision Transformer that keeps keys and values, "


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"

"""Write the metrics of a run to `metrics.jsonl` and optionally to wandb. A failure never stops the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snn_dt import jsonl
from snn_dt.config import TrackConfig
from snn_dt.training.wandb_run import start_run


class Tracker:
    """A metric sink that writes a line to `run_dir/metrics.jsonl` per call, and to wandb if it is available.

    wandb is imported only if `settings.wandb` is not `disabled`. `auto` follows WANDB_MODE. If it is not set, wandb is
    online if there is a key and the host answers. Otherwise it is offline and one line explains how to sync. A failure
    of wandb or the disk is printed once, in one line, and the run continues. No global random generator is used.
    """

    def __init__(
        self,
        run_dir: Path,
        settings: TrackConfig,
        config: Mapping[str, Any],
        resume_step: int | None = None,
        say: Callable[[str], None] | None = None,
        resume_measured: int | None = None,
    ) -> None:
        """Open or continue `metrics.jsonl`.

        Args:
            run_dir: The run folder. The files of wandb are in its folder `wandb/`.
            settings: The `track` section of the config.
            config: The resolved config, for wandb.
            resume_step: The step from which the run is resumed. Later lines are dropped and wandb keeps the run id.
                None starts a new file and renames an old one to metrics.previous.jsonl.
            say: Prints a line for the user. None prints to stderr.
            resume_measured: The step of the last evaluation if the resumed run does not repeat it.
        """
        self._dir, self._path = run_dir, run_dir / "metrics.jsonl"
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._run: Any = None
        self._torn = self._told_disk = False
        with self._disk():
            if resume_step is not None:
                # The resumed run writes these lines again.
                jsonl.cut_after(self._path, resume_step, resume_measured)
            elif self._path.exists():
                self._path.replace(run_dir / "metrics.previous.jsonl")
        if settings.wandb != "disabled":
            with self._wandb("starting"):
                self._run = start_run(run_dir, settings, jsonl.plain(config), resume_step is not None, self._say)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of a step, which may be nested. Steps never decrease."""
        self._append({"step": step, **metrics})
        with self._wandb("logging"):
            self._send(step, flatten(metrics))

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write an evaluation with one row per target return. wandb receives `eval/return_mean@<target>` and so on.

        Lists, such as the returns of all episodes, and `by_module` are omitted. `return_interval` is kept.
        """
        brief = [{k: v for k, v in jsonl.plain(row, True).items() if _is_brief(k, v)} for row in rows]
        self._append({"step": step, "evaluation": brief})
        with self._wandb("logging an evaluation"):
            if self._run is not None:
                import wandb

                # Rows may differ in their keys, so the table has the union of all.
                flat = [flatten(row) for row in brief]
                columns: list[Any] = list(dict.fromkeys(key for row in flat for key in row))
                table = wandb.Table(
                    columns=columns, data=[[row.get(key) for key in columns] for row in flat], allow_mixed_types=True
                )
                scalars = {
                    f"eval/{key}@{row['target_return']:g}": value
                    for row in flat
                    for key, value in row.items()
                    if key not in ("target_return", "seed", "episodes") and isinstance(value, (int, float))
                }
                self._send(step, {**scalars, "eval/table": table})

    def log_checkpoint(self, directory: Path, aliases: Sequence[str]) -> None:
        """Store a checkpoint folder in wandb as a version of the run's model artifact."""
        with self._wandb("storing a checkpoint"):
            if self._run is not None:
                import wandb

                artifact = wandb.Artifact(f"checkpoint-{self._run.id}", type="model")
                for path in sorted(path for path in directory.rglob("*") if path.is_file()):  # add_dir would print
                    artifact.add_file(str(path), name=path.relative_to(directory).as_posix())
                self._run.log_artifact(artifact, aliases=list(aliases))

    def finish(self, exit_code: int = 0) -> None:
        """Close the run of wandb. Further calls do nothing."""
        with self._wandb("finishing"):
            run, self._run = self._run, None
            if run is not None:
                run.finish(exit_code=exit_code)

    def _send(self, step: int, values: dict[str, Any]) -> None:
        # A resumed run repeats the steps after its checkpoint with the same numbers. wandb already has them.
        if self._run is not None and step >= getattr(self._run, "step", 0):
            self._run.log(values, step=step)

    def _append(self, row: dict[str, Any]) -> None:
        line = jsonl.dumps(row)
        with self._disk():
            # If a full disk cut off the last line, this one starts on a new line.
            torn, self._torn = self._torn, True
            jsonl.append_line(self._path, "\n" + line if torn else line)
            self._torn = False

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._told_disk:
                self._say(f"warning: cannot write {self._path} ({error}); the run goes on without these lines")
            self._told_disk = True

    @contextmanager
    def _wandb(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._run = None
            # Only the first line: errors of wandb can be long.
            first = (str(error).splitlines() or [""])[0]
            self._say(
                f"warning: wandb failed in {doing} ({type(error).__name__}: {first}); "
                "from here on this run is recorded in metrics.jsonl only"
            )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to names `a/b`. Tensors and numpy scalars become numbers."""
    flat: dict[str, Any] = {}
    for key, value in jsonl.plain(values, keep_nan=True).items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _is_brief(key: str, value: Any) -> bool:
    return key == "return_interval" or not (key == "by_module" or isinstance(value, list))

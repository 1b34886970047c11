"""Write the metrics of a run to `metrics.jsonl` and to trackers. A failure never stops the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snn_dt import jsonl
from snn_dt.config import TrackConfig
from snn_dt.training.records import Record, evaluation_record, metrics_record
from snn_dt.training.trackers import TRACKERS, ExperimentTracker, RunStart


class Tracker:
    """A metric sink that writes a line to `run_dir/metrics.jsonl` per call and passes it on to trackers.

    The trackers are those of `settings.tracker`. wandb is imported only if it is among them and `settings.wandb` is not
    `disabled`. `auto` follows WANDB_MODE. If it is not set, wandb is online if there is a key and the host answers.
    Otherwise it is offline and one line explains how to sync. A failure of a tracker or the disk is printed once, in
    one line, and the run continues. No global random generator is used.
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
            config: The resolved config, for the trackers.
            resume_step: The step from which the run is resumed. Later lines are dropped, and trackers go on with the
                same run. None starts a new file and renames an old one to metrics.previous.jsonl.
            say: Prints a line for the user. None prints to stderr.
            resume_measured: The step of the last evaluation if the resumed run does not repeat it.
        """
        self._dir, self._path = run_dir, run_dir / "metrics.jsonl"
        self.say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._trackers: dict[str, ExperimentTracker] = {}
        self._step, self._torn, self._told_disk = resume_step or 0, False, False
        with self._disk():
            if resume_step is not None:
                # The resumed run writes these lines again.
                jsonl.cut_after(self._path, resume_step, resume_measured)
            elif self._path.exists():
                self._path.replace(run_dir / "metrics.previous.jsonl")
        start = RunStart(run_dir, settings, jsonl.plain(config), resume_step, self.say)
        for name in dict.fromkeys(settings.tracker):
            if name == "none" or (name == "wandb" and settings.wandb == "disabled"):
                continue
            self._trackers[name] = TRACKERS[name]()
            self._each("starting", lambda tracker: tracker.start(start), name)

    @property
    def active(self) -> bool:
        """Whether a tracker receives the run beside metrics.jsonl."""
        return bool(self._trackers)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of a step, which may be nested. Steps never decrease."""
        self._append({"step": step, **metrics})
        self._pass_on("logging", step, lambda: metrics_record(metrics))

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write an evaluation with one row per target return.

        Lists, such as the returns of all episodes, and `by_module` are omitted. The intervals are kept.
        """
        brief = [{k: v for k, v in jsonl.plain(row, True).items() if _is_brief(k, v)} for row in rows]
        self._append({"step": step, "evaluation": brief})
        self._pass_on("logging an evaluation", step, lambda: evaluation_record(brief, jsonl.read_rows(self._path)))

    def log_media(self, step: int, media: Mapping[str, bytes | Path]) -> None:
        """Pass on pictures (PNG) and paths of videos (MP4) by name."""
        self._pass_on("logging media", step, lambda: Record(media=media))

    def log_checkpoint(self, directory: Path, aliases: Sequence[str]) -> None:
        """Pass on a checkpoint folder, of which wandb makes a version of the run's model artifact."""
        self._pass_on("storing a checkpoint", self._step, lambda: Record(checkpoint=(directory, aliases)))

    def finish(self, exit_code: int = 0) -> None:
        """Close the trackers. Further calls do nothing."""
        self._each("finishing", lambda tracker: tracker.finish(exit_code))
        self._trackers = {}

    def _pass_on(self, doing: str, step: int, make: Callable[[], Record]) -> None:
        if self._trackers:
            self._each(doing, lambda tracker: tracker.log(step, make()))

    def _each(self, doing: str, call: Callable[[ExperimentTracker], bool | None], *names: str) -> None:
        """Call each tracker, or the named ones. One that returns False is dropped; one that raises is reported too."""
        for name in names or tuple(self._trackers):
            try:
                if call(self._trackers[name]) is False:
                    del self._trackers[name]
            except Exception as error:
                del self._trackers[name]
                # Only the first line: errors of wandb can be long.
                first = (str(error).splitlines() or [""])[0]
                self.say(
                    f"warning: {name} failed in {doing} ({type(error).__name__}: {first}); from here on this run is "
                    "recorded elsewhere only, above all in metrics.jsonl"
                )

    def _append(self, row: dict[str, Any]) -> None:
        line, self._step = jsonl.dumps(row), row["step"]
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
                self.say(f"warning: cannot write {self._path} ({error}); the run goes on without these lines")
            self._told_disk = True


def _is_brief(key: str, value: Any) -> bool:
    return key in ("return_interval", "success_interval") or not (key == "by_module" or isinstance(value, list))

"""`snn-dt quickstart`: a first policy in any folder: train, evaluate, report, and what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from snn_dt.cli.evaluate import evaluate_main
from snn_dt.cli.run_command import execute
from snn_dt.cli.train import TRAIN
from snn_dt.errors import ConfigError

TARGETS = ("500", "100", "29")
"""Targets of the evaluation: the best return of the data, one that few episodes have, the median."""

EPISODES = "20"
"""Episodes per target."""

BEGIN = """\
A Spiking Decision Transformer learns to balance CartPole from 821 recorded episodes, of which half keep the pole up for
fewer than 30 steps. Then it is asked for returns of {targets}. Two to three minutes on two cores."""

NEXT = """\
Done in {minutes}. Next:

  {run}/report/report.html
      the report: return achieved against target, spikes, energy
  snn-dt evaluate --checkpoint {run} --target-return 200
      ask the same policy for another return
  snn-dt list
      presets, variants, datasets and trained checkpoints
  snn-dt train cartpole --variant snn_dt_stream
      a model with a state instead of a window
  snn-dt train --data.dataset minari:ID
      your own Minari dataset; --data.dataset takes its folder too

In Python:  policy = snn_dt.from_pretrained("{run}")"""


def quickstart_main(arguments: Sequence[str]) -> int:
    """Run the command. Its flags are those of `snn-dt train`."""
    words, begin = list(arguments), time.monotonic()
    if words[:1] in (["-h"], ["--help"]):
        print("usage: snn-dt quickstart [flags of snn-dt train]\n")
        print(BEGIN.format(targets=", ".join(TARGETS)))
        print("The run goes to runs/quickstart, or to --run-dir DIR.")
        return 0
    run = _run_folder(words)
    name = shlex.quote(str(run))
    print(BEGIN.format(targets=", ".join(TARGETS)))
    train = ["quickstart", "--run-dir", str(run), *words]
    _announce(1, "train", "train", train)
    status = execute(TRAIN, train)
    if status:
        return status
    evaluate = ["--checkpoint", str(run), "--episodes", EPISODES, "--target-return", *TARGETS]
    evaluate += ["--json", str(run / "evaluation.json"), "--report", str(run / "report")]
    _announce(2, "evaluate and report", "evaluate", evaluate)
    status = evaluate_main(evaluate)
    seconds = round(time.monotonic() - begin)
    print()
    print(NEXT.format(run=name, minutes=f"{seconds // 60} min {seconds % 60} s"))
    return status


def _run_folder(words: list[str]) -> Path:
    """Take `--run-dir DIR` out of the words; without it, return the first free one of runs/quickstart, -2, -3, ..."""
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in ("--run-dir", "--run_dir"):
            value = value if equals else "".join(words[i + 1 : i + 2])
            del words[i : i + 2 - bool(equals)]
            if not value:
                raise ConfigError(f"expected a folder after {flag}, found none; name one or leave it out")
            return Path(value)
    names = (f"runs/quickstart-{n}" if n > 1 else "runs/quickstart" for n in count(1))
    return next(path for path in map(Path, names) if not path.exists())


def _announce(step: int, what: str, command: str, words: Sequence[str]) -> None:
    print(f"\n[{step}/2] {what}: snn-dt {command} {shlex.join(words)}\n", flush=True)

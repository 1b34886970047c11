"""Runs cases and judges what comes of them: the same questions for every input."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaign.case import Case, Command, Expect, Result

ROOT = Path(__file__).parents[2]
LIMIT = 90.0  # seconds of a clock until a command counts as one that hangs; none needs a tenth of it on an idle machine
MEMORY = 700 << 20  # bytes a command may take for an input of a few kilobytes
MOST_SAID = 3000  # characters of a line
WORDS = 4  # of a line that says what was expected or found, at least
FAULTS = ("traceback", "hang", "memory", "crash", "code", "silent", "lines", "status", "words", "content")


@dataclass(frozen=True)
class Verdict:
    """What came of a case: an outcome, and what is wrong with it, if anything."""

    outcome: str
    fault: str = ""
    detail: str = ""


class Server:
    """The process that forks for every command."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
            "SNN_DT_KERNEL": "reference",
            "COLUMNS": "200",
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._shared = tempfile.TemporaryDirectory(prefix="campaign-shared-")
        environment["CAMPAIGN_SHARED"] = self._shared.name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        assert self._answer() == "ready"

    def run(self, command: Command, folder: Path, limit: float = LIMIT) -> Result:
        own = {
            "SNN_DT_CACHE": str(folder / "cache"),
            "MINARI_DATASETS_PATH": str(folder / "minari"),
            "D4RL_DATASET_DIR": str(folder / "d4rl"),
            "CAMPAIGN_FOLDER": str(folder),
        }
        request = {
            "folder": str(folder),
            "words": command.words,
            "function": command.function,
            "arguments": command.arguments,
            "environment": own | command.environment,
            "stdout": command.stdout,
            "signal_after": command.signal_after,
            "limit": limit,
            "cpu": 60,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Result(**self._answer(), folder=folder)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._shared.cleanup()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of the campaign has ended with status {self._process.wait(30)}")
        return json.loads(line)


def judge(result: Result, expect: Expect) -> Verdict:
    """Tell whether a result is what was expected; the worst fault is named first."""
    lines, tail = result.lines, " | ".join(result.lines)[-400:]
    outcome = {0: "accepted", 2: "refused"}.get(result.status, f"status {result.status}")
    canary = result.folder / "CANARY"
    if canary.exists():
        return Verdict(outcome, "code", canary.read_text()[:200])
    if result.hung:
        return Verdict("killed", "hang", f"{result.seconds:.0f} s, {result.cpu_seconds:.0f} s of CPU")
    if result.status < 0:
        return Verdict(outcome, "crash", tail)
    if "Traceback (most recent call last)" in result.stderr:
        where = re.findall(r'File "([^"]*snn_dt/[^"]+)", line (\d+)', result.stderr)
        return Verdict(outcome, "traceback", f"{lines[-1][:160]} [{':'.join(where[-1]) if where else '?'}]")
    if result.grown > MEMORY:
        return Verdict(outcome, "memory", f"{result.grown >> 20} MiB; {tail}")
    if result.status == 2:
        return _refusal(result, expect, tail)
    if expect.kind == "ended" and result.status == expect.status:
        return _with_words(outcome, expect, tail)
    if result.status != 0:
        return Verdict(outcome, "status", tail)
    if expect.kind == "refused":
        return Verdict(outcome, "silent", f"{result.stdout.strip()[-200:]!r} {tail}")
    if expect.kind in ("warned", "loud"):
        if not lines:
            return Verdict(outcome, "silent", repr(result.stdout.strip()[-200:]))
        return _with_words("warned", expect, tail)
    if expect.kind == "ended":
        return Verdict(outcome, "status", f"expected {expect.status}; {tail}")
    wrong = expect.verify(result) if expect.verify else None
    return Verdict("warned" if lines else outcome, "content" if wrong else "", wrong or "")


def _refusal(result: Result, expect: Expect, tail: str) -> Verdict:
    # What a command warned of before it met the fault stands in lines of its own; Python's own warnings do not count.
    errors = [line for line in result.lines if line.startswith("snn-dt: ") and not line.startswith("snn-dt: warning")]
    noise = [line for line in result.lines if line[0].isspace() or re.search(r"\.py:\d+: ", line)]
    if len(errors) != 1 or noise or len(errors[0]) > MOST_SAID or len(errors[0].split()) < WORDS:
        return Verdict("refused", "lines", f"{len(errors)} lines: {tail}")
    if expect.kind not in ("refused", "loud", "sound"):
        return Verdict("refused", "status", tail)
    return _with_words("refused", expect, tail)


def _with_words(outcome: str, expect: Expect, said: str) -> Verdict:
    missing = [word for word in expect.words if word.lower() not in said.lower()]
    return Verdict(outcome, "words" if missing else "", f"lacks {missing}: {said}" if missing else "")


@dataclass
class Report:
    """Counts of one family, and every case that failed."""

    family: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    cpu_seconds: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.counts[name] for name in self.counts if name.startswith("="))

    def add(self, case: Case, verdict: Verdict, result: Result) -> bool:
        """Count a case; returns whether it failed."""
        self.counts["=" + verdict.outcome] += 1
        if verdict.fault:
            self.counts[verdict.fault] += 1
            self.failures.append(f"{self.family}/{case.name}: {verdict.fault} ({case.expect.kind}): {verdict.detail}")
        self.slowest = max(self.slowest, (result.cpu_seconds, case.name))
        self.cpu_seconds += result.cpu_seconds
        return bool(verdict.fault)


def run_family(
    family: str, cases: Iterable[Case], server: Server, limit: float = LIMIT, say: Callable[[str], Any] | None = None
) -> Report:
    """Run the cases of a family, each in a folder of its own that is gone afterwards; `say` is told each failure."""
    report = Report(family)
    for case in cases:
        folder = Path(tempfile.mkdtemp(prefix="campaign-"))
        try:
            result = server.run(case.make(folder), folder, limit)
            if not stat.S_ISCHR(os.stat(os.devnull).st_mode):
                raise RuntimeError(f"{family}/{case.name} has replaced {os.devnull}: mend the machine, then the code")
            failed = report.add(case, judge(result, case.expect), result)
            if failed and say:
                say(report.failures[-1])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return report


def table(rows: list[dict[str, int]]) -> str:
    """Return counts of families, and their sum, as lines of text."""
    names = ["cases", "refused", "warned", "accepted", "other", *FAULTS]
    total = {name: sum(row[name] for row in rows) for name in names}
    lines = [f"{'family':18}" + "".join(f"{name:>10}" for name in names)]
    for row in [*sorted(rows, key=lambda row: str(row["family"])), {"family": "all"} | total]:
        lines.append(f"{row['family']:18}" + "".join(f"{row[name] or '.':>10}" for name in names))
    return "\n".join(lines)


def counts_of(report: Report) -> dict[str, int]:
    """Return a report's counts as a row of the table."""
    outcomes = {name: report.counts["=" + name] for name in ("refused", "warned", "accepted")}
    other = report.cases - sum(outcomes.values())
    faults = {name: report.counts[name] for name in FAULTS}
    return {"family": report.family, "cases": report.cases, **outcomes, "other": other, **faults}

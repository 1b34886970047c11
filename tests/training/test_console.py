"""What a person sees of a run: lines in a log file, a bar on a terminal."""

import io
import re

import pytest

from snn_dt.training import console as module
from snn_dt.training.console import Console

METRICS = {"loss": 0.25, "firing_rate": 0.125, "firing_rate/block.0": 0.1, "steps_per_second": 20.0}
EVALUATION = {"target_return": 500.0, "return_mean": 498.2, "return_interval": [490.1, 500.0], "episodes": 20}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def test_off_a_terminal_each_record_is_one_plain_line_with_the_time_left(clock):
    file = io.StringIO()
    with Console(file) as console:
        console.start(1000, 200)
        clock[0] = 10.0
        console.log(250, {})  # moves on without a record: nothing to print
        console.log(300, METRICS)
        clock[0] = 20.0
        console.log(400, {"loss": 1e-5})
        console.log(400, {"validation_loss": 1.0})
        console.evaluating(3, 20)
        console.log_evaluation(400, [EVALUATION])
    assert file.getvalue().splitlines() == [
        "update 300/1000  loss 0.2500  firing 0.125  20 updates/s  01:10 left",  # 100 updates took 10 s, 700 are left
        "update 400/1000  loss 1e-05  10 updates/s  01:00 left",
        "evaluation at update 400: target 500, return 498.2 [490.1, 500] over 20 episodes",
    ]


def test_on_a_terminal_a_bar_shows_the_last_record_and_printed_lines_stay_above_it(terminal):
    with Console(terminal) as console:
        console.start(1000)
        console.log(500, METRICS)
        console.print("wandb sync /a/[red]b[/red] " + "x" * 200)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "wandb sync /a/[red]b[/red] " + "x" * 200 + "\n" in text  # neither markup nor wrapped: it can be copied
    last = text.splitlines()[-1]
    assert "━" in last
    for part in ("500/1000", "loss 0.2500", "firing 0.125", "20 updates/s", "left"):
        assert part in last


def test_between_two_records_the_bar_moves_at_every_update_and_fits_80_columns(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    at = [0]
    with Console(terminal) as console:
        console.start(10_000, position=lambda: at[0])
        clock[0], at[0] = 10.0, 1000
        console.log(1000, METRICS)
        clock[0], at[0] = 11.0, 1100
        console._progress.refresh()
        assert console._progress.tasks[0].completed == 1100
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).splitlines()[-1]
    assert len(last.rstrip()) <= 80
    for part in ("1100/10000", "loss 0.2500", "firing 0.125", "20 updates/s", "01:29 left"):
        assert part in last


def test_an_evaluation_names_itself_on_the_bar_until_it_is_done(terminal):
    console = Console(terminal)
    console.start(10)
    console.evaluating(3, 20)
    assert console._progress.tasks[0].description == "evaluate 3/20"
    console.evaluating(20, 20)
    assert console._progress.tasks[0].description == ""
    console.stop()
    console.stop()


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Console(terminal) as console:
        console.start(10)
        console.log(5, METRICS)
    assert terminal.getvalue().startswith("update 5/10  loss 0.2500")


def test_an_error_inside_stops_the_bar_and_is_not_swallowed(terminal):
    console = Console(terminal)
    console.start(10)
    with pytest.raises(RuntimeError), console:
        raise RuntimeError
    assert console._progress is None

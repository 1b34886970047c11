"""Environments that raise, return odd things or never end, in every command that steps one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.bad_envs import GOOD, NAMED
from tests.campaign.case import Case, Command, Expect, Result, accepted, ended, refused, sound, warned
from tests.campaign.inputs import CARTPOLE, checkpoint, edit_json, evaluate, hdf5, metadata, train

MODULE = "tests.campaign.bad_envs"


def cases(seed: int) -> Iterator[Case]:
    for mode in (*GOOD, *NAMED):
        good = mode in GOOD
        yield Case(f"evaluate-{mode}", _evaluate(mode), _of(mode, accepted(_three)) if good else _of(mode, refused()))
        yield Case(f"evaluate-own-{mode}", _own(mode), _of(mode, accepted()) if good else _of(mode, refused()))
        yield Case(f"collect-{mode}", _collect(mode), _of(mode, accepted()) if good else _of(mode, refused()))
        yield Case(f"train-{mode}", _train(mode), _of(mode, accepted()) if good else _of(mode, refused()))
        yield Case(f"finetune-{mode}", _finetune(mode), _of(mode, accepted()) if good else _of(mode, refused()))
    for label, make in {"evaluate": _evaluate, "collect": _collect, "train": _train, "finetune": _finetune}.items():
        yield Case(f"{label}-forever", make("forever"), warned("step"))
        yield Case(f"{label}-kbd", make("kbd"), ended(130, "interrupted"))
        # A training notes the first signal, to save; the second ends it wherever it is.
        status = 130 if label in ("train", "finetune") else 143
        yield Case(f"{label}-hang-and-sigterm", _told(make("hang")), ended(status))
    yield Case("evaluate-module", _evaluate("ok", f"{MODULE}:"), accepted(_three))
    yield Case("evaluate-module-absent", _evaluate("ok", "no_such_module_at_all:"), refused("no_such_module_at_all"))


def _of(mode: str, expect: Expect) -> Expect:
    # Out of memory is one line and status 1 wherever it happens; a text that is a number may pass for one, and what
    # is seen after the last action decides nothing.
    return {
        "mem": sound_or_memory(),
        "strrew": sound(),
        "nanobs-last": sound(),
        "huge": sound(),
        "boolrew": sound(),
        "obs64": sound(),
    }.get(mode, expect)


def sound_or_memory() -> Expect:
    return ended(1, "memory")


def _three(result: Result) -> str | None:
    rows = json.loads((result.folder / "results.json").read_text())
    return None if rows[0]["returns"][0] in (1.0, 3.0) else f"returns are {rows[0]['returns']}"


def _evaluate(mode: str, prefix: str = ""):
    def make(folder: Path) -> Command:
        path = checkpoint(folder)
        return evaluate(path, "--env-id", f"{prefix}Bad-{mode}-v0", "--json", str(folder / "results.json"))

    return make


def _own(mode: str):
    def make(folder: Path) -> Command:
        path = checkpoint(folder)
        edit_json(path / "config.json", "policy.env_id", f"Bad-{mode}-v0")
        edit_json(path / "config.json", "policy.env_spec", None)
        return evaluate(path)

    return make


def _collect(mode: str):
    def make(folder: Path) -> Command:
        words = (
            "data",
            "collect",
            f"Bad-{mode}-v0",
            "--id",
            "toy/bad-v0",
            "--episodes",
            "2",
            "--root",
            str(folder / "root"),
        )
        return Command(words)

    return make


def _train(mode: str):
    def make(folder: Path) -> Command:
        spec = json.dumps({**CARTPOLE, "id": f"Bad-{mode}-v0", "entry_point": None, "max_episode_steps": None})
        hdf5(folder, metadata(env_spec=spec, eval_env_spec=spec))
        return train(folder, "--eval.episodes", "1", "--eval.num_envs", "1")

    return make


def _finetune(mode: str):
    def make(folder: Path) -> Command:
        path = checkpoint(folder)
        values = {
            "env_id": f"Bad-{mode}-v0", "explore.episodes": 1, "update.iterations": 1, "update.updates": 1,
            "update.batch_size": 2, "update.critic_warm_up": 1, "update.critic_hidden": 4, "update.threads": 1,
            "update.device": "cpu", "eval.episodes": 1, "track.wandb": "disabled",
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in values.items()]
        return Command(("finetune", "--checkpoint", str(path), "--run-dir", str(folder / "run"), *flags))

    return make


def _told(make):
    def told(folder: Path) -> Command:
        import dataclasses

        return dataclasses.replace(make(folder), signal_after=6.0)

    return told

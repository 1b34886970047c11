"""A module is imported for an environment only where the user types it, or trusts the file by the one flag."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from snn_dt.checkpoint import from_pretrained, save_checkpoint
from snn_dt.cli.arguments import parse, take_trust
from snn_dt.cli.evaluate import EvaluateArguments
from snn_dt.cli.main import main
from snn_dt.config import load_config
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.experimental.finetune.config import load_finetune_config
from snn_dt.experimental.online.config import load_online_config
from tests.policies import make_policy, shape_of
from tests.runs import flags

CARTPOLE = gym.make("CartPole-v1")
SPACES = CARTPOLE.observation_space, CARTPOLE.action_space


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that registers another CartPole and leaves a mark; returns whether it was imported."""
    (tmp_path / "strangers.py").write_text(
        f"open({str(tmp_path / 'mark')!r}, 'w')\nimport gymnasium as gym\n"
        "gym.register('Stranger-v0', entry_point='gymnasium.envs.classic_control.cartpole:CartPoleEnv', "
        "max_episode_steps=5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda: (tmp_path / "mark").exists()
    sys.modules.pop("strangers", None)
    gym.registry.pop("Stranger-v0", None)


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint whose environment is what the arguments say."""

    def make(**spec) -> Path:
        policy = make_policy(*SPACES, **spec)
        save_checkpoint(tmp_path / "stranger", policy, *shape_of(*SPACES, "dense"), {})
        return tmp_path / "stranger"

    return make


def says(capsys, *words: str) -> str:
    assert main([*words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


STRANGERS = [
    {"env_id": "strangers:Stranger-v0"},
    {
        "env_id": "strangers:Stranger-v0",
        "env_spec": json.dumps({"id": "strangers:Stranger-v0", "max_episode_steps": 5}),
    },
    {"env_id": "Stranger-v0", "env_spec": json.dumps({"id": "Stranger-v0", "entry_point": "strangers:Env"})},
    {"env_id": "CartPole-v1", "env_spec": json.dumps({"id": "CartPole-v1", "kwargs": {"path": "strangers:run"}})},
    {
        "env_id": "CartPole-v1",
        "env_spec": json.dumps(
            {"id": "CartPole-v1", "additional_wrappers": [{"name": "R", "entry_point": "strangers:R", "kwargs": {}}]}
        ),
    },
]


@pytest.mark.parametrize("spec", STRANGERS, ids=range(len(STRANGERS)))
def test_a_checkpoint_names_no_module_to_evaluate_or_to_fine_tune(checkpoint, module, capsys, tmp_path, spec):
    folder = str(checkpoint(**spec))
    assert from_pretrained(folder).spec.env_id == spec["env_id"], "loading alone makes no environment"
    error = says(capsys, "evaluate", "--checkpoint", folder, "--episodes", "1", "--threads", "1")
    assert "--trust-env-spec" in error
    run = ("--run-dir", str(tmp_path / "run"), "--track.wandb", "disabled", "--update.threads", "1")
    assert "--trust-env-spec" in says(capsys, "finetune", "--checkpoint", folder, *run)
    assert not (tmp_path / "run").exists()
    assert not module()


def test_the_user_may_type_a_module_or_trust_the_checkpoint(checkpoint, module, capsys):
    words = ["evaluate", "--checkpoint", str(checkpoint(**STRANGERS[1])), "--episodes", "1", "--threads", "1"]
    assert main([*words, "--env-id", "strangers:Stranger-v0"]) == 0
    assert module()
    assert main([*words, "--trust-env-spec"]) == 0
    assert main([*words, "--trust-env-spec", "false"]) == 2
    policy = from_pretrained(words[2], trust=True)
    assert policy.trust


def test_a_config_file_names_no_module_and_neither_does_the_file_of_a_resumed_run(module, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("eval: {env_id: 'strangers:Stranger-v0'}")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match=r"eval\.env_id: expected the id of a registered environment in a file"):
            load_config(tmp_path / f"{name}.yaml")
        run = ["--run-dir", str(tmp_path / "run"), "--config", str(tmp_path / f"{name}.yaml")]
        assert "--trust-env-spec" in says(capsys, "train", *run)
    assert load_config(tmp_path / "a.yaml", trust=True).eval.env_id == "strangers:Stranger-v0"
    (tmp_path / "f.yaml").write_text("env_id: 'strangers:Stranger-v0'")
    with pytest.raises(ConfigError, match="env_id: expected the id of a registered environment in a file"):
        load_finetune_config(tmp_path / "f.yaml")
    (tmp_path / "o.yaml").write_text("task: {env_id: 'strangers:Stranger-v0'}\nguide: {kind: ppo}")
    run = ["--run-dir", str(tmp_path / "run"), "--config", str(tmp_path / "o.yaml")]
    assert "task.env_id: expected the id of a registered environment in a file" in says(capsys, "online", *run)
    assert load_online_config(tmp_path / "o.yaml", trust=True).task.env_id == "strangers:Stranger-v0"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump({"eval": {"env_id": "strangers:Stranger-v0"}}))
    assert "--trust-env-spec" in says(capsys, "train", "--resume", str(tmp_path / "old"))
    (tmp_path / "s.yaml").write_text("configs: [a.yaml]")
    assert "--trust-env-spec" in says(capsys, "sweep", "--config", str(tmp_path / "s.yaml"), "--list")
    (tmp_path / "plain.yaml").write_text("eval: {episodes: 1}")
    (tmp_path / "g.yaml").write_text("configs: [plain.yaml]\ngrid: {eval.env_id: ['strangers:Stranger-v0']}")
    assert "--trust-env-spec" in says(capsys, "sweep", "--config", str(tmp_path / "g.yaml"), "--list")
    assert not module()


def test_a_run_whose_user_typed_a_module_is_resumed_by_a_user_who_trusts_it(module, capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["train", *flags(run, eval__env_id="strangers:Stranger-v0", train__steps=2)]) == 0
    assert module()
    assert "--trust-env-spec" in says(capsys, "train", "--resume", str(run))
    for words in (["--resume", str(run), "--trust-env-spec"], ["--trust-env-spec", f"--resume={run}"]):
        assert main(["train", *words]) == 0


def test_the_flag_is_no_field_of_a_config_file(tmp_path):
    (tmp_path / "a.yaml").write_text("trust_env_spec: true")
    for load in (load_config, load_finetune_config):
        with pytest.raises(ConfigError, match="unknown key trust_env_spec"):
            load(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("words", "trust", "others"),
    [
        ("--seed 1", False, "--seed 1"),
        ("--trust-env-spec --seed 1", True, "--seed 1"),
        ("--seed 1 --trust_env_spec", True, "--seed 1"),
        ("--trust-env-spec true --seed 1", True, "--seed 1"),
        ("--trust-env-spec=false", False, ""),
        ("--trust-env-spec false", False, ""),
        ("--trust-env-spec=true --trust-env-spec", True, ""),
    ],
)
def test_naming_the_flag_is_enough(words, trust, others):
    assert take_trust(words.split()) == (trust, others.split())
    args = parse(EvaluateArguments, ["--checkpoint", "x", *words.split()], "snn-dt evaluate")
    assert args.trust_env_spec is trust


@pytest.mark.parametrize("limit", [10**400, 0, -1, "many", 2.5])
def test_a_checkpoint_with_an_absurd_step_limit_is_refused(checkpoint, limit):
    spec = json.dumps({"id": "CartPole-v1", "max_episode_steps": limit})
    with pytest.raises(CheckpointError, match=r"policy\.env_spec: expected"):
        from_pretrained(checkpoint(env_id="CartPole-v1", env_spec=spec))


def test_a_cap_below_one_step_is_a_mistake(checkpoint, capsys, tmp_path):
    folder = str(checkpoint(env_id="CartPole-v1"))
    assert "--max-steps of at least 1, found 0" in says(capsys, "evaluate", "--checkpoint", folder, "--max-steps", "0")
    error = says(capsys, "train", *flags(tmp_path / "run", eval__max_steps=0))
    assert "eval.max_steps: expected at least 1 or null, found 0" in error
    json_file = tmp_path / "out.json"
    words = ["evaluate", "--checkpoint", folder, "--episodes", "2", "--max-steps", "4", "--threads", "1"]
    assert main([*words, "--json", str(json_file)]) == 0
    [row] = json.loads(json_file.read_text())
    assert (row["max_steps"], row["episodes_cut"], row["episode_length_mean"]) == (4, 2, 4.0)

"""Public datasets by name: the table, its commands and plans, and files in the public layouts."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.cli.data import data_main
from snn_dt.cli.data_public import lines
from snn_dt.cli.main import main
from snn_dt.config import load_config
from snn_dt.data.d4rl_files import URLS
from snn_dt.data.public_sets import FAMILIES, PRESET, find_set
from snn_dt.data.scores import environment_reference
from snn_dt.errors import ConfigError, DataError
from snn_dt.training.sweep.grid import read_sweep
from tests.any_spaces import samples, stacked
from tests.conftest import ROOT
from tests.data.test_d4rl_source import write

SETS = [public for family in FAMILIES for public in family.sets]


def goals(size: int, goal: int) -> spaces.Dict:
    box = lambda n: spaces.Box(-np.inf, np.inf, (n,), np.float64)  # noqa: E731
    return spaces.Dict({"achieved_goal": box(goal), "desired_goal": box(goal), "observation": box(size)})


def box(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float64)


TASKS = {"bottom burner": 2, "kettle": 7, "light switch": 2, "microwave": 1}
KITCHEN = spaces.Dict(
    {name: spaces.Dict({task: box(n) for task, n in TASKS.items()}) for name in ("achieved_goal", "desired_goal")}
    | {"observation": box(59)}
)
# What one set of each of Minari's families observes, as its page says.
MINARI = {
    "minari:mujoco/hopper/expert-v0": box(11),
    "minari:D4RL/pen/human-v2": box(45),
    "minari:D4RL/kitchen/mixed-v2": KITCHEN,
    "minari:D4RL/pointmaze/umaze-v2": goals(4, 2),
    "minari:D4RL/antmaze/large-play-v1": goals(27, 2),
}
# Cached names of D4RL's files, from their URLs.
D4RL = {
    "d4rl:hopper-random-v2": "hopper_random-v2.hdf5",
    "d4rl:pen-cloned-v1": "pen-cloned-v1.hdf5",
    "d4rl:kitchen-complete-v0": "mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
    "d4rl:antmaze-umaze-v2": "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5",
    "d4rl:maze2d-umaze-v1": "maze2d-umaze-sparse-v1.hdf5",
}


def test_names_are_unique_and_d4rls_are_in_its_table_of_files():
    names = [public.dataset for public in SETS]
    assert len(names) == len(set(names))
    assert {name.removeprefix("d4rl:") for name in names if name.startswith("d4rl:")} <= URLS.keys()


@pytest.mark.parametrize("name", ["Hopper", "Pusher", "Reacher", "Swimmer", "InvertedPendulum", "Humanoid", "Ant"])
def test_columns_of_the_mujoco_family_are_those_of_its_environments(name):
    pytest.importorskip("mujoco", reason="pip install 'snn-dt[mujoco]'")
    env = gym.make(f"{name}-v5")
    _, public = find_set(f"minari:mujoco/{name.lower()}/expert-v0")
    assert public.columns == (spaces.flatdim(env.observation_space), spaces.flatdim(env.action_space))


def test_the_list_fits_80_columns_and_a_word_shows_the_commands(capsys):
    assert data_main(["list", "--public"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(public.dataset in shown for public in SETS)
    few = "\n".join(lines("pen"))
    assert "pointmaze" not in few
    assert (
        "snn-dt train d4rl/base --data.dataset d4rl:pen-human-v1 --data.rtg_scale null --eval.target_return 3100" in few
    )
    assert not re.search("snn-dt train .*minari:D4RL/minigrid", "\n".join(lines("minari-minigrid")))
    with pytest.raises(ConfigError, match="part of a dataset's name"):
        list(lines("nothing"))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.loads], ids=lambda family: family.name)
def test_the_command_of_each_family_asks_for_its_dataset_and_nothing_else(family, capsys):
    """Without the file the command gets as far as the dataset, so its flags and preset are right."""
    words = family.command(family.sets[0]).split()[1:]
    assert main([*words, "--track.wandb", "disabled"]) == 2
    assert re.search("no (Minari|D4RL) dataset|no file", capsys.readouterr().err)


def test_an_installation_without_a_package_is_told_the_pip_line(monkeypatch):
    monkeypatch.setattr("snn_dt.data.public_sets.find_spec", lambda name: None)
    found = {family.name: family.evaluation() for family in FAMILIES}
    assert found["minari-pointmaze"] == "pip install 'snn-dt[robotics]'"
    assert found["d4rl-kitchen"].startswith("no: no environment emits")
    monkeypatch.setattr("snn_dt.data.public_sets.find_spec", lambda name: name)
    monkeypatch.setattr("snn_dt.data.public_sets._old_mujoco", lambda: False)
    found = {family.name: family.evaluation() for family in FAMILIES}
    assert (found["minari-pointmaze"], found["minari-kitchen"]) == ("yes", "no: FrankaKitchen-v1 needs mujoco<4")


@pytest.mark.parametrize("plan", ["d4rl", "minari-mujoco"])
def test_plans_have_the_datasets_settings_and_targets_of_the_table(plan):
    _, trials = read_sweep(ROOT / "configs" / "reproduce" / f"{plan}.yaml")
    names = {trial.config.data.dataset for trial in trials}
    for trial in trials:
        family, public = find_set(trial.config.data.dataset)
        assert trial.config.eval.target_return == public.targets, trial.name
        assert trial.config.data.rtg_scale == (None if family.settings else 1000), trial.name
    families = {find_set(name)[0].name for name in names}
    if plan == "minari-mujoco":
        assert (families, len(names)) == ({"minari-mujoco"}, 30)
    else:
        assert families == {"d4rl-gym", "d4rl-adroit", "minari-kitchen", "minari-pointmaze", "minari-antmaze"}
    assert load_config(ROOT / "configs" / f"{PRESET}.yaml").model.context_length == 20


@pytest.mark.parametrize("dataset", MINARI)
def test_minaris_layouts_are_read_with_the_columns_of_the_table(dataset, minari_set):
    family, public = find_set(dataset)
    space, n = MINARI[dataset], public.columns[1]
    action = spaces.Box(-1, 1, (n,), np.float32)
    episodes = [
        {
            "observations": stacked(space, samples(space, steps + 1, steps)),
            "actions": stacked(action, samples(action, steps, steps)),
            "rewards": np.arange(steps, dtype=np.float64),
            "terminations": np.zeros(steps, bool),
            "truncations": np.arange(steps) == steps - 1,
        }
        for steps in (3, 5)
    ]
    minari_set(episodes, dataset.removeprefix("minari:"), space, action)
    t = snn_dt.load_dataset(dataset)
    assert (t.n_episodes, t.n_steps, (t.obs_dim, t.action_dim)) == (2, 8, public.columns)
    first = [spaces.flatten(space, value) for value in samples(space, 4, 3)[:3]]
    np.testing.assert_allclose(t.observations[:3], first, rtol=1e-6)
    assert "Dict" in family.spaces if isinstance(space, spaces.Dict) else family.spaces == "Box -> Box"


def _miniature(minari_set, dataset: str, lengths: tuple[int, ...] = (9, 14), **facts) -> None:
    space, action = MINARI[dataset], spaces.Box(-1, 1, (find_set(dataset)[1].columns[1],), np.float32)
    episodes = [
        {
            "observations": stacked(space, samples(space, steps + 1, steps)),
            "actions": stacked(action, samples(action, steps, steps)),
            "rewards": (np.arange(steps) == steps - 1).astype(np.float64),
            "terminations": np.zeros(steps, bool),
            "truncations": np.arange(steps) == steps - 1,
        }
        for steps in lengths
    ]
    minari_set(episodes, dataset.removeprefix("minari:"), space, action, **facts)


def _trains(dataset: str, run_dir, *flags: str) -> snn_dt.Policy:
    """Run the command of the list for a miniature of the set, and return its policy."""
    family, public = find_set(dataset)
    small = "--train.steps 2 --train.batch_size 4 --model.d_model 16 --track.wandb disabled"
    assert main([*f"{family.command(public)} {small} --run-dir {run_dir}".split()[1:], *flags]) == 0
    return snn_dt.from_pretrained(run_dir / "checkpoints" / "last")


@pytest.mark.parametrize("dataset", ["minari:D4RL/pointmaze/umaze-v2", "minari:D4RL/antmaze/large-play-v1"])
def test_the_commands_of_the_mazes_train_on_the_desired_goal(dataset, minari_set, tmp_path):
    _miniature(minari_set, dataset)
    policy = _trains(dataset, tmp_path / "run", "--eval.episodes", "0")
    assert policy.model.config.condition == "goal"
    assert policy.model.task.goal_columns == (2, 4)


def test_an_antmaze_policy_is_evaluated_in_the_recorded_environment(minari_set, tmp_path, capsys):
    robotics = pytest.importorskip("gymnasium_robotics", reason="pip install 'snn-dt[robotics]'")
    gym.register_envs(robotics)
    spec = gym.make("AntMaze_UMaze-v4", max_episode_steps=20).spec
    _miniature(minari_set, "minari:D4RL/antmaze/large-play-v1", env=spec)
    _trains("minari:D4RL/antmaze/large-play-v1", tmp_path / "run", "--eval.episodes", "2")
    assert "AntMaze_UMaze-v4, 2 episodes" in " ".join(capsys.readouterr().out.split())


def test_minaris_minigrid_is_refused_for_its_text(minari_set):
    space = spaces.Dict({"direction": spaces.Discrete(4), "image": spaces.Box(0, 255, (7, 7, 3), np.uint8)})
    both = spaces.Dict({**space.spaces, "mission": spaces.Text(20)})
    episode = {
        "observations": stacked(space, samples(space, 3)) | {"mission": ["reach the goal"] * 3},
        "actions": np.array([2, 1]),
        "rewards": np.array([0.0, 1.0]),
        "terminations": np.array([False, True]),
        "truncations": np.zeros(2, bool),
    }
    folder = minari_set([episode], "D4RL/minigrid/fourrooms-v0", both, spaces.Discrete(7))
    with pytest.raises(DataError, match=r"Text observations at 'mission' \(letters are no numbers\)"):
        snn_dt.load_dataset("minari:D4RL/minigrid/fourrooms-v0")
    assert folder.is_dir()


@pytest.mark.parametrize("dataset", D4RL)
def test_d4rls_layouts_are_read_under_their_cached_names(dataset, tmp_path):
    _, public = find_set(dataset)
    ends = {9: "timeouts", 24: "timeouts"}
    data = write(tmp_path / "d4rl" / D4RL[dataset], 25, *public.columns, ends=ends)
    t = snn_dt.load_dataset(dataset)
    assert (t.episode_offsets.tolist(), (t.obs_dim, t.action_dim)) == ([0, 10, 25], public.columns)
    np.testing.assert_array_equal(t.observations, data["observations"])
    assert t.reference is not None


def test_d4rls_minigrid_has_choices(tmp_path):
    actions = np.arange(12) % 7
    path = tmp_path / "d4rl" / "minigrid4rooms.hdf5"
    observations = np.zeros((12, 7, 7, 3), np.uint8) + np.arange(3, dtype=np.uint8)
    write(path, 12, ends={11: "timeouts"}, observations=observations, actions=actions)
    t = snn_dt.load_dataset("d4rl:minigrid-fourrooms-v0")
    assert (t.obs_dim, t.action_dim, t.actions.tolist()) == (147, 7, actions.tolist())


def test_adroits_scores_are_those_of_its_first_version_only():
    assert environment_reference("AdroitHandDoor-v1").max == pytest.approx(2880.57, abs=0.01)
    assert environment_reference("AdroitHandDoor-v2") is None
    assert environment_reference("Hopper-v5") is not None


@pytest.mark.parametrize(
    ("name", "installed", "warns"),
    [
        ("AdroitHandDoor-v1", "1.4.2", True),
        ("AdroitHandDoor-v1", "1.2.0", False),
        ("AdroitHandPen-v1", "1.4.2", False),
        ("AdroitHandDoor-v2", "1.4.3", False),
    ],
)
def test_rewards_that_changed_under_one_name_are_told_apart(name, installed, warns, monkeypatch):
    from snn_dt.evaluation import environment_fit

    monkeypatch.setattr(environment_fit, "version", lambda package: installed)
    assert environment_fit._rewards_changed(name) is warns

"""The environment of an evaluation is the recorded one; a file cannot have another made, imported or opened."""

from __future__ import annotations

import json
import logging
import sys

import gymnasium as gym
import numpy as np
import pytest

from snn_dt.data.env_spec import parse_spec
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy_spec import check_spec
from tests.policies import make_policy

PENDULUM = gym.make("Pendulum-v1")
WRAPPERS = "gymnasium.wrappers"


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, called or used as an environment; returns whether it was."""
    (tmp_path / "evilmod.py").write_text(
        f"mark = open({str(tmp_path / 'mark')!r}, 'a')\n"
        "import gymnasium as gym\n"
        "def run(*_, **__): mark.write('called')\n"
        "class Env(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)\n"
        "    def __init__(self, **_): mark.write('made')\n"
        "class Wrapped(gym.Wrapper): pass\n"
        "if 'Evil-v0' not in gym.registry: gym.register('Evil-v0', entry_point=Env)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda: (tmp_path / "mark").exists()
    sys.modules.pop("evilmod", None)
    gym.registry.pop("Evil-v0", None)


def spec_json(**changes) -> str:
    return json.dumps(json.loads(PENDULUM.spec.to_json()) | changes)


def wrapper(name: str, entry_point: str | None = None, **kwargs) -> dict:
    entry = entry_point or f"{WRAPPERS}.{name.lower()}:{name}"
    return {"name": name, "entry_point": entry, "kwargs": kwargs}


def pendulum_policy(env_spec: str | None = None, env_id: str | None = "Pendulum-v1", env=PENDULUM, **spec):
    return make_policy(env.observation_space, env.action_space, env_id=env_id, env_spec=env_spec, **spec)


BAD_IDS = [
    "evilmod:Env-v0", "evilmod:Pendulum-v1", "evilmod:Evil-v0", "evilmod", "evilmod/Env-v0", "ns/Id", "ns/Id-v0",
    "Pendulum", "Pendulum-v", "pendulum-v1", "Nothing-v0", "snn_dt/Nothing-v0", "a:b:c", ":Pendulum-v1", "Pendulum-v1:",
    "../evilmod", "evilmod.Env", " Pendulum-v1", "Pendulum-v1\n", "\x00", "e" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
@pytest.mark.parametrize("with_spec", [True, False])
def test_an_id_of_a_file_that_is_not_registered_is_refused_and_imports_nothing(evil, name, with_spec):
    entry = {"entry_point": "evilmod:Env", "vector_entry_point": "evilmod:run"}
    policy = pendulum_policy(spec_json(id=name, **entry) if with_spec else None, env_id=name)
    assert refusal(policy)
    assert not evil()


def refusal(policy, env_id: str | None = None) -> str:
    with pytest.raises(EnvironmentMismatchError) as caught:
        make_environment(policy, env_id)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 900
    return message


@pytest.mark.parametrize("entry", ["evilmod:Env", "evilmod:run", "subprocess:getoutput", "os:system", "builtins:eval"])
def test_an_entry_point_of_a_file_is_never_used_where_the_id_is_registered(evil, entry):
    env = make_environment(pendulum_policy(spec_json(entry_point=entry, vector_entry_point=entry)))
    assert type(env.unwrapped).__name__ == "PendulumEnv"
    assert not evil()


BAD_KWARGS = [
    {"xml_file": "ant"}, {"xml_file": 0}, {"model_path": "a"}, {"assets": {"xml": {"main": "a"}}}, {"file_name": "x"},
    {"g": "/etc/passwd"}, {"g": "..\\x"}, {"g": "a.xml"}, {"g": "../x"}, {"g": "~root"}, {"g": "C:x"},
    {"g": "os.system"},
    {"g": {"deep": {"deeper": ["fine", "evilmod:run"]}}}, {"g": [[[["a/b"]]]]}, {"g": {"a/b": 1}},
    {"config_dir": ["x"]},
    {"env_fn": "evilmod:run"}, {"entry_point": "evilmod:Env"}, {"g": "x" * 101}, {"g": 10**400}, {"frame_skip": 10**7},
    {"g": "file\x00"}, {"url": "x"}, {"plugin": "evilmod"}, {"module": "evilmod"}, {"XML_FILE": "a"},
    {"xmlFile": "a.b"},
    {"g": [[[[[[[[[[1]]]]]]]]]]}, {"id": "Evil-v0"}, {"max_episode_steps": 5}, {"nothing_known": 1},
]  # fmt: skip


@pytest.mark.parametrize("kwargs", BAD_KWARGS, ids=lambda kwargs: str(kwargs)[:40])
def test_an_argument_of_a_file_that_is_not_plain_or_names_a_path_is_refused_by_name(evil, kwargs):
    message = refusal(pendulum_policy(spec_json(kwargs=kwargs)))
    assert next(iter(kwargs)) in message or "'xml'" in message
    assert not evil()


@pytest.mark.parametrize(
    "kwargs", [{"g": 3.5}, {"g": 3}, {}, {"g": 9.8, "render_mode": "human"}, {"render_mode": "/x"}]
)
def test_plain_arguments_are_those_of_the_recorded_environment_and_its_render_mode_is_left_out(kwargs):
    env = make_environment(pendulum_policy(spec_json(kwargs=kwargs)))
    assert env.unwrapped.g == kwargs.get("g", 10.0)
    assert env.render_mode is None


def test_arguments_that_the_registry_gives_itself_are_no_secret_of_the_file(monkeypatch):
    class World(gym.Env):
        observation_space, action_space = PENDULUM.observation_space, PENDULUM.action_space

        def __init__(self, xml_file):
            self.xml_file = xml_file

    gym.register("World-v0", entry_point=World, kwargs={"xml_file": "assets/world.xml"})
    try:
        spec = json.dumps({"id": "World-v0", "kwargs": {"xml_file": "assets/world.xml"}})
        env = make_environment(pendulum_policy(spec, env_id="World-v0"))
        assert env.unwrapped.xml_file == "assets/world.xml"
        other = json.dumps({"id": "World-v0", "kwargs": {"xml_file": "/etc/passwd"}})
        assert "'xml_file': '/etc/passwd'" in refusal(pendulum_policy(other, env_id="World-v0"))
    finally:
        gym.registry.pop("World-v0")


BAD_WRAPPERS = [
    wrapper("Wrapped", "evilmod:Wrapped"),
    wrapper("RescaleAction", "evilmod:RescaleAction", min_action=-1, max_action=1),
    wrapper("system", f"{WRAPPERS}.os:system"), wrapper("run", f"{WRAPPERS}:evilmod.run"),
    wrapper("x", f"{WRAPPERS}:common.copy.os.system"), wrapper("x", f"{WRAPPERS}.common:deepcopy"),
    wrapper("x", f"{WRAPPERS}..evilmod:RescaleAction"), wrapper("x", f"{WRAPPERS}evil:RescaleAction"),
    wrapper("x", f"{WRAPPERS}:__getattr__"), wrapper("x", f"{WRAPPERS}:vector"), wrapper("x", f"{WRAPPERS}:"),
    wrapper("x", "evilmod:Env:RescaleAction"), wrapper("x", f"{WRAPPERS}:evilmod:RescaleAction"), wrapper("x", ""),
    wrapper("JaxToTorch"), wrapper("RescaleAction", "RescaleAction"), wrapper("x", f"x\n{WRAPPERS}:RescaleAction"),
    wrapper("RescaleAction", min_action="evilmod:run", max_action=1), wrapper("TimeLimit", nothing=3),
    wrapper("FrameStackObservation", stack_size=10**9), wrapper("RepeatAction", num_repeats=10**12),
    wrapper("RescaleAction", min_action=[1.0] * 7, max_action=2.0),
    {"name": "x", "entry_point": f"{WRAPPERS}:TransformAction", "kwargs": None},
]  # fmt: skip


@pytest.mark.parametrize("one", BAD_WRAPPERS, ids=lambda one: f"{one['entry_point']}{one['kwargs']}"[:60])
def test_a_wrapper_of_another_place_is_refused_by_name_and_imports_nothing(evil, one):
    message = refusal(pendulum_policy(spec_json(additional_wrappers=[one])))
    assert one["name"] in message or repr(one["entry_point"])[1:-1][:60] in message
    assert not evil()


@pytest.mark.parametrize("kind", ["RescaleAction", "RescaleObservation", "TimeAwareObservation", "both"])
def test_wrappers_of_gymnasium_are_those_of_the_recording(kind):
    def wrapped(env):
        if kind in ("RescaleAction", "both"):
            env = gym.wrappers.RescaleAction(env, -1.0, 1.0)
        if kind in ("RescaleObservation", "both"):
            env = gym.wrappers.RescaleObservation(env, -1.0, 1.0)
        return gym.wrappers.TimeAwareObservation(env) if kind == "TimeAwareObservation" else env

    right = wrapped(gym.make("Pendulum-v1", max_episode_steps=20))
    mine = make_environment(pendulum_policy(right.spec.to_json(), env=right))
    assert (mine.observation_space, mine.action_space) == (right.observation_space, right.action_space)
    action = right.action_space.high * 0.5
    for env in (right, mine):
        env.reset(seed=3)
    for step in range(20):
        expected, found = right.step(action), mine.step(action)
        np.testing.assert_array_equal(expected[0], found[0])
        assert expected[1:4] == found[1:4], step
    assert found[3]


def test_wrappers_that_only_show_are_left_out_and_those_that_forget_are_named(caplog):
    shows = [
        wrapper("HumanRendering"),
        wrapper("RecordVideo", video_folder="/etc/x"),
        wrapper("RecordEpisodeStatistics"),
    ]
    forgets = wrapper("NormalizeReward", gamma=0.9, epsilon=1e-8)
    with caplog.at_level(logging.WARNING, "snn_dt"):
        env = make_environment(pendulum_policy(spec_json(additional_wrappers=[*shows, forgets])))
    assert "NormalizeReward" in str(env)
    assert "HumanRendering" not in str(env)
    assert "RecordVideo" not in str(env)
    [line] = caplog.messages
    assert "statistics of NormalizeReward anew" in line


def test_wrappers_that_registering_applies_are_not_applied_twice():
    made = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0)
    gym.register(
        "Rescaled-v0", entry_point=PENDULUM.spec.entry_point, additional_wrappers=made.spec.additional_wrappers
    )
    try:
        recorded = gym.make("Rescaled-v0")
        mine = make_environment(pendulum_policy(recorded.spec.to_json(), "Rescaled-v0", env=recorded))
        assert str(mine).count("RescaleAction") == 1
    finally:
        gym.registry.pop("Rescaled-v0")


@pytest.mark.parametrize(("limit", "steps"), [(7, 7), (None, 1000), ("absent", 1000)])
def test_the_step_limit_is_the_recorded_one_also_where_that_is_none(limit, steps):
    values = json.loads(spec_json(max_episode_steps=limit))
    if limit == "absent":
        del values["max_episode_steps"]
    env = make_environment(pendulum_policy(json.dumps(values)))
    assert env.max_steps == steps
    assert ("TimeLimit" in str(env)) == (limit == 7)


BAD_SPECS = [
    5, [], {}, True, "", "{", "5", "null", "[]", '{"id": 5}', '{"id": null}', '{"id": ""}', "[" * 100_000,
    '"Pendulum-v1"',
    *(spec_json(max_episode_steps=n) for n in (10**400, 0, -1, -5, 1.5, "200", True, [200], float("inf"), 10**12)),
    *(spec_json(kwargs=kwargs) for kwargs in ([1], "g", 5)),
    *(spec_json(additional_wrappers=w) for w in (5, "x", {"a": 1}, [5], ["evilmod:run"], [{}], [{"entry_point": 5}],
                                                 [{"entry_point": "a:b", "kwargs": [1]}])),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_SPECS, ids=lambda text: str(text)[:50])
def test_what_is_no_specification_is_refused_where_the_checkpoint_is_loaded(text):
    policy = pendulum_policy(text)
    with (
        pytest.raises(ValueError, match=r"policy\.env_spec: expected the JSON") if text not in ({}, "{}") else refused()
    ):
        check_spec(policy.spec, policy.model.task)
    with pytest.raises(ValueError, match="expected"):
        parse_spec(text)


def refused():
    return pytest.raises(ValueError, match="env_spec")


def test_two_environments_in_one_checkpoint_are_refused(evil):
    assert "found env_id 'Pendulum-v1' and an env_spec of 'CartPole-v1'" in refusal(
        pendulum_policy(spec_json(id="CartPole-v1"))
    )
    assert refusal(pendulum_policy(spec_json(id="evilmod:Evil-v0")))
    assert not evil()


def test_action_bounds_that_differ_are_a_warning_with_both(caplog):
    narrow = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), -1.0, 1.0)
    with caplog.at_level(logging.WARNING, "snn_dt"):
        make_environment(pendulum_policy(env=narrow))
        make_environment(pendulum_policy())
        make_environment(pendulum_policy(env=narrow), quiet=True)
    [line] = caplog.messages
    assert "actions of Pendulum-v1 are Box(-2.0, 2.0" in line
    assert "Box(-1.0, 1.0" in line


def test_observation_bounds_are_compared_where_both_have_some(caplog):
    rescaled = gym.wrappers.RescaleObservation(gym.make("Pendulum-v1"), -2.0, 2.0)
    free = make_policy(gym.spaces.Box(-np.inf, np.inf, (3,)), PENDULUM.action_space, env_id="Pendulum-v1")
    with caplog.at_level(logging.WARNING, "snn_dt"):
        make_environment(free)
        assert caplog.messages == []
        make_environment(pendulum_policy(env=rescaled))
    assert "observations of Pendulum-v1" in caplog.text


def test_what_the_user_types_may_import_and_takes_the_recorded_arguments_where_it_is_the_recorded_one(evil):
    two = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    assert make_environment(make_policy(*two), "evilmod:Evil-v0").max_steps == 1000
    assert evil()
    spec = json.dumps({"id": "Evil-v0", "kwargs": {"level": 3}, "max_episode_steps": 9})
    assert make_environment(make_policy(*two, env_id="Evil-v0", env_spec=spec), "evilmod:Evil-v0").max_steps == 9
    unsafe = json.dumps({"id": "Evil-v0", "kwargs": {"path": "x"}})
    assert "'path': 'x'" in refusal(make_policy(*two, env_id="Evil-v0", env_spec=unsafe), "evilmod:Evil-v0")


def test_who_trusts_a_file_gets_what_it_describes(evil):
    two = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    values = {"kwargs": {"path": "/x"}, "additional_wrappers": [wrapper("Wrapped", "evilmod:Wrapped")]}
    for env_id, entry in (("evilmod:Evil-v0", None), ("Unknown-v0", "evilmod:Env")):
        spec = json.dumps({"id": env_id, "entry_point": entry, "max_episode_steps": 4, **values})
        policy = make_policy(*two, env_id=env_id, env_spec=spec)
        refusal(policy)
        assert "--trust-env-spec" in refusal(policy)
        assert not evil() or env_id == "Unknown-v0"
        policy.trust = True
        env = make_environment(policy)
        assert env.max_steps == 4
        assert "Wrapped" in str(env)

"""The walk-throughs of docs/extending.md run as they are written, and what they add is counted, limited and saved."""

from __future__ import annotations

import dataclasses
import json
import re
from contextlib import contextmanager

import pytest
import torch

import snn_dt
from snn_dt import registry
from snn_dt.config import config_from_dict
from snn_dt.energy import DecisionMeter
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.learning.budget import Budget
from snn_dt.models import build_model
from snn_dt.models.last_token import knows_window
from snn_dt.snn import Probe
from tests.conftest import DISCRETE, ROOT, TINY, make_batch, run

PAGE = (ROOT / "docs" / "extending.md").read_text()
TABLES = [x for x in vars(registry).values() if isinstance(x, registry.Table)]


def blocks_of(section: str) -> list[str]:
    """The Python blocks of a section; the text before the first heading is section ``."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    text = dict(zip(["", *parts[1::2]], parts[::2], strict=True))[section]
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@contextmanager
def own_entries():
    """Entries that are registered meanwhile are removed afterwards."""
    before = {id(table): set(table.names()) for table in TABLES}
    try:
        yield
    finally:
        for table in TABLES:
            for name in set(table.names()) - before[id(table)]:
                table.remove(name)


@pytest.fixture
def section(tmp_path, monkeypatch):
    """Runs the blocks of a section, the first ones of them if asked to, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def execute(name: str, first: int | None = None) -> dict:
        names: dict = {"__name__": "walk_through"}
        for block in blocks_of("") + blocks_of(name)[:first]:
            exec(compile(block, f"extending.md {name}", "exec"), names)
        return names

    with own_entries():
        yield execute


def own_model(**fields):
    torch.manual_seed(0)
    return build_model(dataclasses.replace(TINY, **fields), DISCRETE).eval()


@pytest.mark.parametrize(("title", "field"), [("A neuron", "neuron"), ("An attention", "attention")])
def test_a_part_of_your_own_trains_is_counted_and_is_loaded_again(section, title, field):
    names = section(title)
    row, policy = names["run"].rows[0], names["policy"]
    assert row["energy_pj_per_decision"] > 0
    assert row["uncounted"] == []
    name = {"neuron": "quadratic", "attention": "gated_mean"}[field]
    assert getattr(policy.model.config, field) == name
    for mine, loaded in zip(names["run"].policy.model.parameters(), policy.model.parameters(), strict=True):
        assert torch.equal(mine, loaded)
    registry.NEURONS.remove(name)
    registry.ATTENTIONS.remove(name)
    with pytest.raises(CheckpointError, match=rf"model.{field}: expected one of .*import the module that registers it"):
        snn_dt.from_pretrained(f"runs/{name}")


def test_a_loss_of_your_own_is_in_the_log_and_in_the_checkpoint(section):
    section("A loss term")
    with open("runs/smooth/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    assert [line["smoothness"] > 0 for line in lines if "loss" in line] == [True] * 4


def test_a_data_source_of_your_own_trains(section):
    names = section("A data source")
    assert names["policy"].spec.dataset_id == "noise"


def test_positions_and_a_kind_of_your_own_train(section):
    names = section("A position code or a kind")
    assert names["run"].policy.model.config.positions == "clock"


@pytest.mark.parametrize("coding", ["rate", "spikes"])
@pytest.mark.parametrize(
    ("title", "fields"),
    [("A neuron", {"neuron": "quadratic", "tau_mem": 2.0}), ("An attention", {"attention": "gated_mean"})],
)
def test_own_parts_are_causal_probed_and_limited_and_no_kernel_takes_their_place(section, title, fields, coding):
    section(title, first=1)
    model, batch = own_model(**fields, coding=coding), make_batch(DISCRETE)
    changed = dataclasses.replace(batch, actions=batch.actions.clone())
    changed.actions[:, -1] = (changed.actions[:, -1] + 1) % 3
    with Probe(model) as probe, torch.no_grad():
        found = run(model, batch)
    assert set(probe.firing_rates()) == set(DecisionMeter(model).firing_rates() or probe.firing_rates())
    with torch.no_grad():
        assert torch.equal(found, run(model, changed))
        assert ("neuron" in fields) <= (not knows_window(model))
    limits = config_from_dict({"train": {"budget": {"synaptic_operations": 1.0}}}).train.budget
    budget = Budget(limits, model.train())
    with budget.watch():
        run(model, batch).sum()
    excess, measured = budget.excess(torch.tensor(1.0), batch.attention_mask)
    assert excess > 0
    assert measured["synaptic_operations"] > 0


def test_the_stream_takes_an_own_neuron_that_is_a_membrane_and_refuses_others(section):
    names = section("A neuron", first=1)
    model, batch = own_model(kind="snn_dt_stream", neuron="quadratic"), make_batch(DISCRETE)
    with torch.no_grad():
        whole = run(model, batch)
        state, steps = model.rest(len(batch.rtg)), []
        for t in range(batch.rtg.shape[1]):
            part = (x[:, t : t + 1] for x in (batch.rtg, batch.states, batch.actions, batch.attention_mask))
            y, state = model.scan(*part, state)
            steps.append(y)
    torch.testing.assert_close(torch.cat(steps, 1)[batch.attention_mask], whole[batch.attention_mask])
    names["QuadraticIF"].membrane_only = False
    with pytest.raises(ConfigError, match="membrane_only"):
        own_model(kind="snn_dt_stream", neuron="quadratic")


@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream"])
def test_a_learned_time_constant_is_one_parameter_per_layer_and_starts_as_lif(kind):
    lif, plif = own_model(kind=kind), own_model(kind=kind, neuron="plif")
    raw = [p for name, p in plif.named_parameters() if name.endswith("raw_leak")]
    assert len(raw) == sum(1 for m in plif.modules() if type(m).__name__ == "LIF") > 0
    batch = make_batch(DISCRETE)
    torch.testing.assert_close(run(lif, batch), run(plif, batch))
    run(plif.train(), batch).square().sum().backward()
    assert all(p.grad is not None for p in raw)


@pytest.mark.parametrize("field", ["kind", "neuron", "attention", "positions", "loss"])
def test_an_unknown_name_is_refused_in_one_line_with_the_known_ones(field):
    with pytest.raises(ConfigError) as error:
        config_from_dict({"model": {field: "nonesuch"}})
    message = str(error.value)
    assert message.startswith(f"model.{field}: expected one of ")
    assert "found 'nonesuch'" in message
    assert "\n" not in message


def test_a_name_has_one_entry_and_is_an_identifier():
    with own_entries():
        snn_dt.register_loss("one", lambda model, batch, predictions: None)
        snn_dt.register_loss("one", lambda model, batch, predictions: None)  # a notebook cell that runs twice
        with pytest.raises(ConfigError, match=r"'one' is registered already, by tests\.test_extending"):
            snn_dt.register_loss("one", run)
        with pytest.raises(ConfigError, match="'action' is registered already"):
            snn_dt.register_loss("action", run)
        with pytest.raises(ConfigError, match="expected a name of letters"):
            snn_dt.register_loss("a:b", len)


def test_what_a_neuron_builds_must_be_a_neuron():
    with own_entries():
        snn_dt.register_neuron("wrong", lambda config: torch.nn.ReLU())
        with pytest.raises(ConfigError, match=r"expected 'wrong' to build a snn_dt\.snn\.Neuron, found ReLU"):
            own_model(neuron="wrong")


def test_plugins_are_modules_of_installed_packages_and_a_broken_one_is_a_warning(monkeypatch, caplog):
    class Point:
        def __init__(self, name, load):
            self.name, self.value, self.load = name, f"package.{name}", load

    def broken():
        raise ImportError("no module\nnamed x")

    points = [Point("broken", broken), Point("good", lambda: snn_dt.register_loss("of_a_plugin", len))]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "snn_dt.plugins" else [])
    registry.load_plugins.cache_clear()
    try:
        assert registry.LOSSES["of_a_plugin"] is len
        assert "plugin broken (package.broken): expected to import it, found: no module named x" in caplog.text
    finally:
        registry.LOSSES.remove("of_a_plugin")
        registry.load_plugins.cache_clear()

"""A pushed checkpoint comes back as the same policy, through the real client and a hub on this machine."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
import yaml

import snn_dt
from snn_dt import hub
from snn_dt.cli.main import main
from snn_dt.errors import CheckpointError
from tests.conftest import ROOT
from tests.hub_double import serve

CHECKPOINT = ROOT / "results" / "pretrained" / "cartpole-snn_dt"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A hub with an empty cache; `service.repos` are its files."""
    pip = "pip install 'snn-dt[hub]'"
    pytest.importorskip("huggingface_hub", reason=f"huggingface_hub is not installed: {pip}")
    from huggingface_hub import constants

    server = serve()
    for name, value in {
        "ENDPOINT": server.address,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "a-token")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_a_pushed_checkpoint_loads_as_the_same_policy(service, tmp_path, capsys):
    assert main(["hub", "push", str(CHECKPOINT), "someone/cartpole"]) == 0
    assert 'from_pretrained("someone/cartpole")' in capsys.readouterr().out
    assert service.repos["someone/cartpole"].keys() == {*hub.FILES, "README.md"}
    service.repos["someone/cartpole"]["training_state.pt"] = b"a pickle"
    ours, theirs = snn_dt.from_pretrained(CHECKPOINT), snn_dt.from_pretrained("someone/cartpole")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name in ("training_state.pt", "README.md")]
    assert theirs.spec == ours.spec
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, theirs.model.state_dict()[name])
    service.shutdown()  # the cache is enough from now on
    service.server_close()
    assert snn_dt.from_pretrained("hf:someone/cartpole").spec == ours.spec


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_is_private_where_that_is_asked_for(service, private):
    assert main(["hub", "push", str(CHECKPOINT), "someone/cartpole", *["--private"] * private]) == 0
    (asked,) = service.asked
    assert (asked.get("private") is True or asked.get("visibility") == "private") is private


def test_the_card_says_what_was_trained_on_what_and_returned_what(service, tmp_path):
    policy = snn_dt.from_pretrained(CHECKPOINT)
    rows = snn_dt.evaluate(policy, (500.0, 20.0), episodes=2)
    (tmp_path / "out.json").write_text(json.dumps(rows))
    words = ["--evaluation", str(tmp_path / "out.json"), "--licence", "cc-by-4.0"]
    assert main(["hub", "push", str(CHECKPOINT), "someone/cartpole", *words]) == 0
    card = service.repos["someone/cartpole"]["README.md"].decode()
    _, header, text = card.split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "cc-by-4.0"
    assert [m["value"] for r in header["model-index"][0]["results"] for m in r["metrics"]] == [
        row["return_mean"] for row in rows
    ]
    for part in ("sb3/cartpole/mixed-v0", "CartPole-v1", policy.provenance["commit"], "from_pretrained", "500.0"):
        assert part in text, part


def test_no_such_repository_no_network_and_offline_are_one_line_each(service, capsys, monkeypatch):
    from huggingface_hub import constants

    for change, said in ((lambda: None, "no such repository"), (service.server_close, "cannot be reached")):
        change()
        assert main(["evaluate", "--checkpoint", "someone/else"]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
        service.shutdown()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        snn_dt.from_pretrained("someone/else")
    with pytest.raises(CheckpointError, match=r"cannot be reached|HF_HUB_OFFLINE"):
        hub.upload("someone/else", {"a": b"b"}, "message")


def test_a_path_that_is_mistyped_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert hub.repository("runs/mnie") is None
    assert hub.repository("someone/mnie") == "someone/mnie"
    assert hub.repository("hf:runs/mnie") == "runs/mnie"
    assert [hub.repository(name) for name in ("/runs/a", "../a/b", "a", "a/b/c", "./b", "a/")] == [None] * 6


def test_without_the_client_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'snn-dt\[hub\]'"):
        snn_dt.from_pretrained("someone/cartpole")


def test_an_imported_policy_is_published_too(service, tmp_path):
    policy = snn_dt.from_pretrained(CHECKPOINT)
    policy.provenance = {}  # as of weights whose origin is not known
    policy.save_pretrained(tmp_path / "bare")
    assert main(["hub", "push", str(tmp_path / "bare"), "someone/bare"]) == 0
    loaded = snn_dt.from_pretrained("someone/bare")
    loaded.reset()
    assert loaded.act(np.zeros(4)) in (0, 1)

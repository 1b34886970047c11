"""Tables of the parts that a config selects by name. Other packages can add entries.

| table        | selected by         | entry                                                             |
|--------------|---------------------|-------------------------------------------------------------------|
| NEURONS      | `model.neuron`      | `build(config) -> nn.Module`, see `snn_dt.snn.neuron_layers`      |
| ATTENTIONS   | `model.attention`   | `build(config) -> nn.Module`, see `snn_dt.models.mixing`          |
| POSITIONS    | `model.positions`   | `build(config, n_timesteps) -> nn.Module or None`                 |
| ENCODERS     | `model.encoder`     | `build(config, shape) -> nn.Module`, see `snn_dt.models.encoders` |
| KINDS        | `model.kind`        | `Kind`                                                            |
| LOSSES       | `model.loss`        | `loss(model, batch, predictions) -> (scalar, metrics)`            |
| DATA_SOURCES | `data.dataset`      | what reads `NAME:REST`, see `snn_dt.data.source`                  |

A module that is imported before the config is checked can register an entry in one line. So can an installed package:
its entry points of the group `snn_dt.plugins` name such modules. A file never causes an import. A config or checkpoint
that names an unknown entry is refused. `docs/extending.md` shows each of them.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from snn_dt.errors import ConfigError, did_you_mean

T = TypeVar("T")
Build = Callable[..., Any]
PLUGINS = "snn_dt.plugins"
_NAME = re.compile(r"[A-Za-z][\w.-]*")


class Table(Generic[T]):
    """Entries by name.

    Args:
        selected_by: the config field that holds a name, for error messages.
        register: the function that adds an entry, for error messages.
        homes: modules of this package that register the built-in entries; imported on the first look-up.
    """

    def __init__(self, selected_by: str, register: str, homes: tuple[str, ...] = ()) -> None:
        self.selected_by, self.register_by, self.homes = selected_by, register, homes
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Add an entry.

        Raises:
            ConfigError: the name is no identifier, or another module has registered it. The same module may do so
                again, as from a notebook cell that runs twice.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{self.register_by}: expected a name of letters, digits, _ . or -, found {name!r}")
        if not _module_of(entry).startswith("snn_dt."):
            self._import_homes()  # so that a built-in name is taken already
        if name in self._entries and (before := _module_of(self._entries[name])) != _module_of(entry):
            raise ConfigError(f"{self.register_by}: {name!r} is registered already, by {before}; choose another name")
        self._entries[name] = entry

    def names(self) -> list[str]:
        """Return the names of all entries in the order of registration, including those of plugins."""
        self._import_homes()
        load_plugins()
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._import_homes()
        if name not in self._entries:
            load_plugins()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise ConfigError(f"{self.selected_by}: {self.expected(name)}")
        return self._entries[name]

    def expected(self, name: object) -> str:
        """Return the error message for an unknown name."""
        known = self.names()
        return (
            f"expected one of {', '.join(known)}, found {name!r}{_suggestion(name, known)}; if it is your own, first "
            f"import the module that registers it with snn_dt.{self.register_by}"
        )

    def remove(self, name: str) -> None:
        """Remove an entry, for example at the end of a test."""
        self._entries.pop(name, None)

    def _import_homes(self) -> None:
        for module in self.homes:
            import_module(module)


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        defaults: values of the fields of `ModelConfig` that are null in a config.
        build: `(config, task) -> nn.Module`, the model; None: the Decision Transformer around blocks of `block`.
        block: `(config, n_tokens, last) -> nn.Module`, one of its blocks; `last` is the block read out.
        fixed: fields of `ModelConfig` that have only this one value for the kind.
    """

    defaults: Mapping[str, Any]
    build: Build | None = None
    block: Build | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)


NEURONS: Table[Build] = Table("model.neuron", "register_neuron", ("snn_dt.snn.neurons",))
ATTENTIONS: Table[Build] = Table("model.attention", "register_attention", ("snn_dt.models.mixing",))
POSITIONS: Table[Build] = Table(
    "model.positions", "register_positions", ("snn_dt.models.positions", "snn_dt.models.phase_positions")
)
ENCODERS: Table[Build] = Table("model.encoder", "register_encoder", ("snn_dt.models.encoders",))
KINDS: Table[Kind] = Table("model.kind", "register_kind", ("snn_dt.models.kinds",))
LOSSES: Table[Build] = Table("model.loss", "register_loss", ("snn_dt.learning.losses",))
DATA_SOURCES: Table[Any] = Table("data.dataset", "register_data_source", ("snn_dt.data.load",))


def register_neuron(name: str, build: Build) -> None:
    """Add a neuron: `build(config) -> nn.Module` for `model.neuron: NAME`."""
    NEURONS.add(name, build)


def register_attention(name: str, build: Build) -> None:
    """Add an attention: `build(config) -> nn.Module`, called with `(q, k, v, tokens)`, for `model.attention: NAME`."""
    ATTENTIONS.add(name, build)


def register_positions(name: str, build: Build) -> None:
    """Add a position code: `build(config, n_timesteps) -> nn.Module`, `[B, K] -> [B, K, D]`."""
    POSITIONS.add(name, build)


def register_encoder(name: str, build: Build) -> None:
    """Add an encoder: `build(config, (C, H, W))`, a module `[..., C H W] -> [..., D]`, for `model.encoder: NAME`."""
    ENCODERS.add(name, build)


def register_kind(
    name: str,
    defaults: Mapping[str, Any],
    build: Build | None = None,
    *,
    block: Build | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> None:
    """Add a kind of model, see `Kind`: `build` makes the whole model, or `block` a block of the Decision Transformer.

    Raises:
        ConfigError: none or both of `build` and `block`.
    """
    if (build is None) == (block is None):
        raise ConfigError(f"register_kind: expected either build or block for {name!r}")
    KINDS.add(name, Kind(dict(defaults), build, block, dict(fixed or {})))


def register_loss(name: str, loss: Build) -> None:
    """Add a loss: `loss(model, batch, predictions) -> (scalar, metrics)` for `model.loss: NAME`."""
    LOSSES.add(name, loss)


def register_data_source(name: str, source: Any) -> None:
    """Add a data source for `data.dataset: NAME:REST`; see `snn_dt.data.source` for what it offers."""
    DATA_SOURCES.add(name, source)


@functools.cache
def load_plugins() -> None:
    """Import the modules that installed packages name in the entry points `snn_dt.plugins`, once.

    One that fails is left out with a warning: an installed package must not keep this one from working.
    """
    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except Exception as error:  # whatever a module of somebody else's raises
            logging.getLogger("snn_dt").warning(
                "plugin %s (%s): expected to import it, found: %s; update or uninstall it",
                point.name,
                point.value,
                " ".join(str(error).split()) or type(error).__name__,
            )


def _module_of(entry: Any) -> str:
    """Return the name of the module that made an entry, or what an entry of several functions builds or reads with."""
    made = (entry.build or entry.block) if isinstance(entry, Kind) else getattr(entry, "read", entry)
    return str(getattr(made, "__module__", ""))


def _suggestion(name: object, known: list[str]) -> str:
    near = did_you_mean(name, known) if isinstance(name, str) else ""
    return near if "did you mean" in near else ""

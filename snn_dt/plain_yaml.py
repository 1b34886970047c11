"""Reader of a safe subset of YAML: plain values, without tags or duplicate keys, in bounded time and memory.

Numbers are decimal: an optional sign, digits without leading zeros, a point, an exponent. Booleans are `true` and
`false`. YAML 1.1 also reads `1:30` as 90 and `010` as 8. It converts `0x1`, `1_0`, `yes`, `off` and `2024-01-01` too.
Here all of them are text, which a field that expects a number or a boolean refuses.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, ScalarEvent

from snn_dt.io import MAX_DEPTH

MAX_BYTES = 1 << 17
"""Largest YAML text: fifty times the largest of the shipped configs."""
MAX_VALUES = 10_000
"""Largest number of values of a text. An alias (`*name`) counts as a copy."""
NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,9})?")
"""A decimal number as text."""

_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "merge")
)
# Each pattern is read alike by YAML 1.1 and 1.2, so text that PyYAML writes without quotes is read as text again.
_RESOLVED = {
    _NULL: r"~|null|Null|NULL|",
    _BOOL: r"true|True|TRUE|false|False|FALSE",
    _INT: r"[-+]?(?:0|[1-9][0-9]*)",
    _FLOAT: r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    _MERGE: r"<<",
}


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text as dictionaries, lists and plain values.

    Raises:
        ValueError: it is no YAML of this subset; the message is one line.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} characters, found {len(text)}")
    try:
        _check_size(text)
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """Reads only the values above. Refuses a duplicate key, of which PyYAML would silently take the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        # `value` holds (key node, value node) pairs in the order of the text.
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := sorted(key for key, times in keys.items() if times > 1):
            raise yaml.YAMLError(f"the key {twice[0]!r} twice,{node.start_mark}; merge the two")
        return node


_Loader.yaml_implicit_resolvers = {None: [(tag, re.compile(rf"(?:{text})\Z")) for tag, text in _RESOLVED.items()]}


def _check_size(text: str) -> None:
    """Raise `YAMLError` for a text with tags, or one that is too deep or too large with each alias expanded.

    Aliases count as copies because a reader visits their values again: ten lines of ten aliases of the previous line
    are ten thousand million values. The parser's events are checked one by one, so the first excess ends the check.
    """
    written: dict[str, _Size] = {}
    # A stack of the nodes that are open; the first stands for the whole text.
    open_nodes = [_Size(None)]
    documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        documents += isinstance(event, DocumentStartEvent)
        if documents > 1:
            raise yaml.YAMLError(f"a second document,{event.start_mark}; keep one")
        if (tag := getattr(event, "tag", None)) not in (None, "!", _STR):
            raise yaml.YAMLError(f"the tag {tag!r},{event.start_mark}; write the value without it")
        if isinstance(event, CollectionStartEvent):
            open_nodes.append(_Size(event.anchor))
            done = _Size(None)  # placeholder: only the depth of the children is known yet
        elif isinstance(event, CollectionEndEvent):
            done = open_nodes.pop()
            done.values, done.levels = done.values + 1, done.levels + 1
        elif isinstance(event, ScalarEvent):
            done = _Size(event.anchor, values=1)
        elif isinstance(event, AliasEvent):
            if event.anchor not in written:
                raise yaml.YAMLError(f"the alias *{event.anchor} of nothing before it,{event.start_mark}")
            done = written[event.anchor]
        else:
            continue
        # An alias below may repeat it.
        if done.anchor:
            written[done.anchor] = done
        # Add the finished node to its parent.
        above = open_nodes[-1]
        above.values, above.levels = above.values + done.values, max(above.levels, done.levels)
        if above.values > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES} values, with every alias written out")
        if len(open_nodes) - 1 + above.levels > MAX_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_DEPTH} levels of nesting")


@dataclass
class _Size:
    """Number of values and levels of a node."""

    anchor: str | None
    values: int = 0
    levels: int = 0

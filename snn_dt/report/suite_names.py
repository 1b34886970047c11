"""Names of variants up to 0.1.0, and what they are called now: by what is done, not by a name of our own."""

from __future__ import annotations

import sys
from typing import Any

ALIASES = {
    "snn_dt-sparse": "snn_dt-budget-0.5M",
    "snn_dt-sparse128": "snn_dt-budget-4M",
    "snn_dt-6500k": "snn_dt-budget-6.5M",
    "snn_dt-1000k": "snn_dt-budget-1M",
    **{f"snn_dt-{limit}": f"snn_dt-budget-{limit}" for limit in ("300k", "100k", "30k", "10k", "3k")},
    **{f"snn_dt_stream-{limit}": f"snn_dt_stream-budget-{limit}" for limit in ("10k", "3k", "1k", "300")},
    **{f"{kind}-best": f"{kind}-top10" for kind in ("dense", "snn_dt", "snn_dt_stream")},
    "snn_dt_stream-plain": "snn_dt_stream-original-returns",
    "snn_dt_stream-silent": "snn_dt_stream-no-spikes",
}


def current(variant: str, warn: bool = False) -> str:
    """Return what a variant is called now; with `warn` a line on stderr says so if that is another name."""
    name = ALIASES.get(variant, variant)
    if warn and name != variant:
        print(f"warning: the variant {variant} is called {name} now", file=sys.stderr)
    return name


def renamed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record under the current name of its variant."""
    old = str(record["variant"])
    if (new := current(old)) == old:
        return record
    task, _, seed = str(record["trial"]).rpartition(f"-{old}-")
    return {key: {"trial": f"{task}-{new}-{seed}", "variant": new}.get(key, value) for key, value in record.items()}

"""Pictures and a video of a trained policy, for trackers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from snn_dt.evaluation.policy import Policy
from snn_dt.report.facts import Rows


def policy_media(
    policy: Policy,
    rows: Rows,
    data_returns: ArrayLike,
    variant: str,
    video: Path | None,
    say: Callable[[str], None],
    **options: Any,
) -> dict[str, bytes | Path]:
    """Return the figures `return_vs_target` and `spike_raster` (PNG) and the `video` (MP4) of the first target.

    A part that cannot be made is left out with a line.

    Args:
        policy: the trained policy.
        rows: its evaluation, one row per target return.
        data_returns: `[E]` episode returns of the training data.
        variant: name of the model, for its colour.
        video: a folder for the video; None makes none.
        say: called with a line for each part that cannot be made.
        options: `seed` and `env_id` of the evaluation.
    """
    from snn_dt.evaluation.raster import record_raster
    from snn_dt.evaluation.video import record_videos
    from snn_dt.report import figures, spikes
    from snn_dt.report.style import png

    target = rows[0]["target_return"]

    def raster() -> bytes | None:
        found = record_raster(policy, target, **options)
        stream = variant == "snn_dt_stream"  # one simulation step per decision
        steps = 1 if stream else int(getattr(policy.model.config, "sim_steps", 1))
        return png(spikes.spike_raster(found, steps)) if found else None

    makers: dict[str, Callable[[], bytes | Path | None]] = {
        "return_vs_target": lambda: png(figures.return_vs_target(rows, data_returns, variant=variant)),
        "spike_raster": raster,
    }
    if video is not None:
        makers["video"] = lambda: record_videos(policy, [target], video, **options)[0]
    made: dict[str, bytes | Path] = {}
    for name, make in makers.items():
        try:
            if (part := make()) is not None:
                made[name] = part
        except Exception as error:  # an environment or a renderer may fail in any way
            say(f"warning: no {name.replace('_', ' ')} for the trackers, found: {' '.join(str(error).split())[:200]}")
    return made

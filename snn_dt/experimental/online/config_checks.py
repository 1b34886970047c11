"""Allowed values of the fields of a `snn-dt online` configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snn_dt import strict
from snn_dt.data.registration import CRAZYFLIE_HOVER
from snn_dt.model_config import Check, thread_check

if TYPE_CHECKING:
    from snn_dt.experimental.online.config import OnlineConfig


def online_checks(config: OnlineConfig) -> list[Check]:
    """Return the checks of all fields in the form of `snn_dt.strict.check_all`."""
    k, g, t, e, task = config.learn, config.guide, config.train, config.eval, config.task
    hover = task.env_id == CRAZYFLIE_HOVER
    counts: dict[str, tuple[str, ...]] = {
        "task": ("drones",),
        "learn": ("length", "stride", "capacity", "batch_size", "policy_delay", "epochs"),
        "train": ("iterations", "updates", "offline_flights", "eval_every", "save_every"),
        "jump_start": ("first",),
        "guide": ("most_steps",),
        "eval": ("flights",),
        "actor": ("surrogate_slope", "last_slope"),
    }
    not_negative: dict[str, tuple[str, ...]] = {
        "learn": ("q_weight", "bc_weight", "critic_first", "saturation", "policy_noise", "noise_clip"),
        "jump_start": ("growth", "tolerance", "noise", "guide_noise"),
        "task": ("reward_stages", "horizon", "learner_columns", "noise", "flight"),
    }
    positive: dict[str, tuple[str, ...]] = {
        "learn": ("actor_rate", "critic_rate", "alpha", "grad_clip", "exploration", "divergence")
    }
    sizes: dict[str, tuple[str, ...]] = {"actor": ("hidden",), "learn": ("critic_hidden",), "guide": ("hidden",)}
    return [
        *strict.each(config, "at least 1", lambda x: x >= 1, counts),
        *strict.each(config, "at least 0", lambda x: x >= 0, not_negative),
        *strict.each(config, "above 0", lambda x: x > 0, positive),
        *strict.each(config, "in (0, 1]", lambda x: 0 < x <= 1, {"learn": ("tau", "bc_decay", "last_rate")}),
        *strict.each(
            config, "in [0, 1]", lambda x: 0 <= x <= 1, {"task": ("spread",), "guide": ("skill",), "learn": ("gamma",)}
        ),
        *strict.each(config, "in [0, 1)", lambda x: 0 <= x < 1, {"task": ("mass", "thrust", "rotor_lag")}),
        *strict.each(config, "in [0, 2^32)", lambda x: 0 <= x < 2**32, {"train": ("seed",), "eval": ("seed",)}),
        *strict.each(config, "sizes of at least 1", lambda x: min(x, default=0) >= 1, sizes),
        ("learn.bc_weight", k.q_weight + k.bc_weight > 0, "above 0 where learn.q_weight is 0", k.bc_weight),
        ("learn.warm_up", 0 <= k.warm_up < k.length, "in [0, learn.length)", k.warm_up),
        (
            "train.offline",
            not t.offline or (config.has_guide and k.method == "replay"),
            "false without a guide (jump_start.enabled)",
            t.offline,
        ),
        ("guide.load", g.load is None or g.kind == "ppo", "null for the pilot", g.load),
        ("guide.kind", g.kind == "ppo" or not config.has_guide or hover, "ppo (only the drone has a pilot)", g.kind),
        (
            "task.training_spread",
            task.training_spread is None or 0 <= task.training_spread <= 1,
            "in [0, 1], or null",
            task.training_spread,
        ),
        (
            "task.commands",
            task.delay[1] <= task.commands <= 32 or task.commands == 0,
            "0, or from the longest task.delay to 32",
            task.commands,
        ),
        ("task.delay", 0 <= task.delay[0] <= task.delay[1] < 32, "two rising numbers of at most 31", task.delay),
        ("eval.guided", e.guided == 0 or config.has_guide, "0 without a guide", e.guided),
        ("eval.guided", 0 <= e.guided < (task.horizon or 500), "in [0, task.horizon)", e.guided),
        thread_check("train.threads", t.threads),
    ]

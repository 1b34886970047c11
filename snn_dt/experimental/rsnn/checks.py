"""Allowed values of the fields of a `snn-dt rsnn` configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snn_dt import strict
from snn_dt.model_config import Check, thread_check

if TYPE_CHECKING:
    from snn_dt.experimental.rsnn.config import RSNNConfig


def rsnn_checks(config: RSNNConfig) -> list[Check]:
    """Return the checks of all fields in the form of `snn_dt.strict.check_all`."""
    t, n, e, p, h, y = config.task, config.network, config.learn, config.penalty, config.hebbian, config.topology
    classes, groups = t.kind == "classes", 4 if t.kind == "evidence" else 1
    parts = {"input", "readout"} | ({"recurrent"} if n.recurrent else set())
    checks: list[Check] = [
        ("task.inputs", t.inputs >= 1 and t.inputs % groups == 0, f"a multiple of {groups} above 0", t.inputs),
        ("task.steps", t.steps >= (150 if t.kind == "evidence" else 1), "at least 1, 150 for evidence", t.steps),
        ("task.rate_hz", 0 < t.rate_hz <= 1000, "in (0, 1000]", t.rate_hz),
        ("task.cues", t.cues >= 1 and t.cues % 2 == 1, "an odd number above 0", t.cues),
        ("task.classes", t.classes >= 2, "at least 2", t.classes),
        ("network.neurons", n.neurons >= 1, "at least 1", n.neurons),
        ("network.adaptive", 0 <= n.adaptive <= n.neurons, f"in [0, {n.neurons}]", n.adaptive),
        ("network.refractory", n.refractory >= 0, "at least 0", n.refractory),
        ("network.readout", (n.readout == "spiking") == classes, "spiking for classes, else leaky", n.readout),
        ("learn.rule", e.rule != "hebbian" or classes, "bptt or eprop but for classes", e.rule),
        ("learn.loss", e.loss == "cross_entropy" or classes, "cross_entropy but for classes", e.loss),
        ("learn.steps", e.steps >= 1, "at least 1", e.steps),
        ("learn.batch_size", e.batch_size >= 1, "at least 1", e.batch_size),
        thread_check("learn.threads", e.threads),
        ("learn.seed", 0 <= e.seed < 2**32, "in [0, 2^32)", e.seed),
        ("task.seed", 0 <= t.seed < 2**32, "in [0, 2^32)", t.seed),
        ("topology.grow", y.grow >= 0, "at least 0", y.grow),
        ("topology.patience", y.patience >= 1, "at least 1", y.patience),
        ("topology.start", 0 < y.start <= 1, "in (0, 1]", y.start),
        ("hebbian.plastic", set(h.plastic) <= parts, f"some of {', '.join(sorted(parts))}", ", ".join(h.plastic)),
        ("hebbian.baseline", 0 < h.baseline <= 1, "in (0, 1]", h.baseline),
        ("hebbian.trace", 0 <= h.trace < 1, "in [0, 1)", h.trace),
    ]
    nulls = {"threshold_adaptation": n.threshold_adaptation, "feedback_scale": n.feedback_scale}
    checks += [(f"network.{name}", (x or 0) >= 0, "at least 0 or null", x) for name, x in nulls.items()]
    rates = {"penalty": ("rate_target", "rate_max", "rate_min"), "hebbian": ("rate_target",)}
    positive = {
        "network": ("tau_mem", "tau_out", "tau_adaptation", "v_threshold", "dampening"),
        "learn": ("learning_rate", "temperature", "margin", "log_every", "eval_every", "eval_samples", "save_every"),
    }
    not_negative = {
        "learn": ("weight_decay", "grad_clip", "stop_error"),
        "topology": ("every", "prune_below", "grow_scale"),
        "hebbian": ("margin", "homeostasis"),
        "penalty": tuple(vars(p)),
    }
    return [
        *checks,
        *strict.each(config, "above 0", lambda x: x > 0, positive),
        *strict.each(config, "at least 0", lambda x: x >= 0, not_negative),
        *strict.each(config, "in [0, 1]", lambda x: 0 <= x <= 1, rates),
    ]

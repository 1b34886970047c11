"""Learning in the environment: TD3 and its relatives on sequences, for spiking policies that carry a state."""

from __future__ import annotations

from snn_dt.data.registration import register

register()

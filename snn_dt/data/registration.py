"""Environments by id: those of Gymnasium, of this package, of Gymnasium-Robotics, of OGBench and of ale-py.

Importing this module registers the package's own environments; `import snn_dt` alone does not.
`gymnasium.make("snn_dt.experimental.online:snn_dt/CrazyflieHover-v0")` works anywhere; `snn-dt` needs only the id.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

CRAZYFLIE_HOVER = "snn_dt/CrazyflieHover-v0"


def register() -> None:
    """Register the package's own environments, once."""
    import gymnasium

    from snn_dt.data import minatar

    minatar.register()
    if CRAZYFLIE_HOVER not in gymnasium.registry:
        gymnasium.register(
            CRAZYFLIE_HOVER,
            entry_point="snn_dt.experimental.online.crazyflie:CrazyflieHoverEnv",
            vector_entry_point="snn_dt.experimental.online.crazyflie:CrazyflieHoverVectorEnv",
            max_episode_steps=500,
        )


def ensure_registered(env_id: str) -> None:
    """Register the environments of the optional package that `env_id` names, if they are not registered."""
    import gymnasium

    from snn_dt.data import atari

    if env_id in gymnasium.registry:
        return
    atari.register(env_id)
    # Optional packages; without them `gymnasium.make` reports the unknown id.
    if env_id.startswith("ALE/"):
        with contextlib.suppress(ImportError):
            gymnasium.register_envs(import_module("ale_py"))
        return
    if "-singletask" in env_id:
        with contextlib.suppress(ImportError):
            import_module("ogbench")  # registers its environments
        return
    try:
        import gymnasium_robotics
    except ImportError:
        return
    gymnasium.register_envs(gymnasium_robotics)


def make_by_id(env_id: str, **options: Any) -> Any:
    """Make the environment that the user names, `Id-v0` or `module:Id-v0`; raises what other packages raise."""
    import gymnasium

    if ":" not in env_id:
        ensure_registered(env_id)
    return gymnasium.make(env_id, disable_env_checker=True, **options)  # `Checked` reports faults in one line


register()

"""Environments of our own. Importing this package registers them with Gymnasium; `import snn_dt` alone does not.

`gymnasium.make("snn_dt.experimental.online:snn_dt/CrazyflieHover-v0")` works anywhere; `snn-dt` needs only the name.
"""

from __future__ import annotations

CRAZYFLIE_HOVER = "snn_dt/CrazyflieHover-v0"


def register() -> None:
    """Register what is not yet registered."""
    import gymnasium

    if CRAZYFLIE_HOVER not in gymnasium.registry:
        gymnasium.register(
            CRAZYFLIE_HOVER,
            entry_point="snn_dt.experimental.online.crazyflie:CrazyflieHoverEnv",
            vector_entry_point="snn_dt.experimental.online.crazyflie:CrazyflieHoverVectorEnv",
            max_episode_steps=500,
        )


def ensure_registered(env_id: str) -> None:
    """Register what Gymnasium does not know by itself: our own (importing this did), or Gymnasium-Robotics."""
    import gymnasium

    if env_id in gymnasium.registry:
        return
    try:
        import gymnasium_robotics
    except ImportError:
        return
    gymnasium.register_envs(gymnasium_robotics)


register()

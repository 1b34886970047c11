"""Start a wandb run without blocking.

With a key but no network wandb.init blocks for 90 s. Without a key it raises or asks on the terminal. This module
therefore looks for a key where wandb does. It gives the host two seconds to accept a connection.
"""

from __future__ import annotations

import configparser
import importlib
import netrc
import os
import secrets
import shlex
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from snn_dt import io
from snn_dt.config import TrackConfig
from snn_dt.io import write_atomically

CONNECT_SECONDS = 2.0
INIT_SECONDS = 15.0
FINISH_SECONDS = 300.0
PUBLIC_HOST = "api.wandb.ai"


def start_run(
    run_dir: Path, settings: TrackConfig, config: dict[str, Any], resuming: bool, say: Callable[[str], None]
) -> Any:
    """Return a wandb run with its files in `run_dir`, or None if wandb is missing or disabled.

    `auto` follows WANDB_MODE. If it is not set, the run is online unless `why_offline` returns a reason. An offline run
    prints one line on how to upload it. The id of the run is stored in `run_dir` for a resumed run.

    Raises:
        Exception: any error of wandb.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError:
        say("wandb is not installed (pip install wandb): metrics go to metrics.jsonl only")
        return None
    # The setting comes before the environment variable.
    mode: str = settings.wandb
    reason: str | None = "as asked"
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "")
    if mode not in ("online", "offline", "disabled"):
        reason = why_offline(wandb)
        mode = "offline" if reason else "online"
    if mode == "disabled":
        return None
    options: dict[str, Any] = {"init_timeout": INIT_SECONDS, "silent": mode == "offline", "console": "off"}
    if "finish_timeout" in getattr(wandb.Settings, "model_fields", {}):  # wandb 0.26 has none
        options["finish_timeout"] = FINISH_SECONDS
    run = wandb.init(
        mode=mode,
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        name=settings.name or run_dir.resolve().name,
        tags=list(settings.tags),
        config=config,
        dir=str(run_dir),
        id=_run_id(run_dir / "wandb_id.txt", resuming),
        resume="allow" if resuming else None,
        settings=wandb.Settings(**options),
    )
    if mode == "offline":
        folder = shlex.quote(str(Path(run.dir).parent))
        say(f"wandb is offline ({reason}); to upload this run later: wandb sync {folder}")
    return run


def why_offline(wandb: ModuleType) -> str | None:
    """Return the reason why a run of `wandb` cannot be online, as a clause to print; None if it can.

    A key is WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE or a netrc entry of the host. The host is WANDB_BASE_URL, the
    `base_url` of the settings file or the default of wandb. With a proxy the connection to the proxy is tested.
    """
    url = urlsplit(_base_url(wandb))
    if not _has_key(url.netloc, default=url.geturl() == _default_url(wandb)):
        return f"no API key for {url.hostname}"
    if not accepts_connection(*_endpoint(url.scheme, url.hostname or "", url.port)):
        return f"{url.hostname} did not answer within {CONNECT_SECONDS:.0f} s"
    return None


def accepts_connection(host: str, port: int, seconds: float = CONNECT_SECONDS) -> bool:
    """Return whether `host` accepts a TCP connection in time. A thread is needed: name lookup has no time limit."""
    accepted = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                accepted.set()
        except (OSError, ValueError):  # a name that cannot be encoded is a ValueError
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    # The daemon thread may go on; it does not delay the end of the process.
    thread.join(seconds)
    return accepted.is_set()


def _run_id(path: Path, resuming: bool) -> str:
    if resuming and path.exists():
        return path.read_text().strip()
    name = secrets.token_hex(4)
    write_atomically(path, f"{name}\n")
    return name


def _base_url(wandb: ModuleType) -> str:
    settings = configparser.ConfigParser(interpolation=None)
    folder = os.environ.get("WANDB_CONFIG_DIR") or io.expand("~/.config/wandb")
    try:
        settings.read(Path(folder, "settings"))
        configured = settings.get("default", "base_url", fallback=None)
    except (OSError, configparser.Error):
        configured = None
    return (os.environ.get("WANDB_BASE_URL") or configured or _default_url(wandb)).rstrip("/")


def _default_url(wandb: ModuleType) -> str:
    field = getattr(wandb.Settings, "model_fields", {}).get("base_url")
    return str(field.default) if field else f"https://{PUBLIC_HOST}"


def _has_key(netloc: str, default: bool) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        try:
            entries = netrc.netrc(io.expand(path))
        except (OSError, netrc.NetrcParseError):
            continue
        # A key of the public host is valid for the default URL.
        if entries.authenticators(netloc) or (default and entries.authenticators(PUBLIC_HOST)):
            return True
    return False


def _endpoint(scheme: str, host: str, port: int | None) -> tuple[str, int]:
    """Return the host and port to connect to, which are those of the proxy if there is one."""
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    return host, port or (443 if scheme == "https" else 80)

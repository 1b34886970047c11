"""Checkpoints on the Hugging Face hub: a repository `user/name` with the files of a checkpoint folder and a model card.

The client is `huggingface_hub` (`pip install 'snn-dt[hub]'`). It keeps what it fetched in its own cache, and its
variables hold: `HF_HUB_OFFLINE` (use the cache only), `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_dt.errors import CheckpointError

FILES = ("config.json", "model.safetensors", "stats.safetensors", "provenance.json")
"""Files of a checkpoint that are uploaded and fetched. The training state is pickled and stays where it is."""
PREFIX = "hf:"
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


def repository(name: str) -> str | None:
    """Return the repository that a name of a checkpoint means, or None.

    `hf:user/name` always means one. `user/name` does if there is no folder `user` here: then it is a path.
    """
    plain = name.removeprefix(PREFIX)
    if not _REPOSITORY.fullmatch(plain) or (plain == name and os.path.lexists(name.partition("/")[0])):
        return None
    return plain


def fetch(repo: str) -> Path:
    """Fetch the checkpoint of a repository, or find it in the client's cache, and return its folder.

    Raises:
        CheckpointError: the client is not installed, the hub cannot be reached, or it has no such checkpoint.
    """
    client = _client(f"a folder {repo}, or the hub's client to look for a repository of that name")
    try:
        folder = Path(client.snapshot_download(repo, allow_patterns=list(FILES), library_name="snn-dt"))
    except Exception as error:  # the client raises errors of many packages
        raise _failed(f"the checkpoint {repo} on the Hugging Face hub", error) from error
    if not (folder / FILES[0]).exists():
        raise CheckpointError(
            f"expected a checkpoint of snn_dt in {repo}, found no {FILES[0]}; see its page on the hub"
        )
    return folder


def upload(repo: str, files: Mapping[str, Path | bytes], message: str, private: bool = False) -> str:
    """Write files to a repository in one commit, and return its address. A repository that is missing is made.

    Raises:
        CheckpointError: the name is none, the client is not installed, or the hub refuses.
    """
    if not _REPOSITORY.fullmatch(repo):
        raise CheckpointError(f"expected a repository as user/name, found {repo[:100]!r}; name one")
    client = _client("the hub's client")
    try:
        api = client.HfApi(library_name="snn-dt")
        address = api.create_repo(repo, private=private, exist_ok=True)
        added = [client.CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, added, commit_message=message)
    except Exception as error:  # the client raises errors of many packages
        raise _failed(f"to write {repo} on the Hugging Face hub", error) from error
    return str(address)


def _client(wanted: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(f"expected {wanted}, found none; pip install 'snn-dt[hub]'") from error
    return huggingface_hub


def _failed(wanted: str, error: Exception) -> CheckpointError:
    """Return one line for an error of the client: offline, no such repository, no access, or what it says."""
    from huggingface_hub import constants

    chain = {kind.__name__ for at in (error, error.__cause__) if at is not None for kind in type(at).__mro__}
    if constants.HF_HUB_OFFLINE:
        found, cure = "HF_HUB_OFFLINE is set and the cache does not hold it", "unset it, or name a folder"
    elif "RepositoryNotFoundError" in chain:
        found, cure = "no such repository, or it is private", "check the name, or log in with `hf auth login`"
    elif chain & {"TransportError", "ConnectError", "TimeoutException"}:
        found, cure = f"{constants.ENDPOINT} cannot be reached", "check the network, or name a folder"
    else:
        said = " ".join(str(error).split())
        found, cure = said[:300] or type(error).__name__, "log in with `hf auth login` if access is denied"
    return CheckpointError(f"expected {wanted}, found: {found}; {cure}")

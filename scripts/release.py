"""Make a release folder with the repository's datasets and checkpoints: python scripts/release.py FOLDER [NAME ...]

NAME limits it to some of them. Serve the folder, or copy it; `snn-dt ... --release FOLDER` fetches from it by name.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from snn_dt import io, named
from snn_dt.cli.list import datasets, pretrained


def main(folder: Path, only: set[str]) -> None:
    """Copy what is wanted and write release.json last, so that an unfinished release is no release."""
    index = {}
    for kind, about in (("datasets", datasets()), ("pretrained", pretrained())):
        index[kind] = {}
        for name, path in named.known(kind).items():
            if only and name not in only:
                continue
            target = folder / kind / name
            shutil.copytree(path, target, dirs_exist_ok=True)
            files = {
                file.relative_to(target).as_posix(): facts(file) for file in sorted(target.rglob("*")) if file.is_file()
            }
            index[kind][name] = {"about": about[name]["about"], "files": files}
    if missing := only - {name for entries in index.values() for name in entries}:
        sys.exit(f"release: expected names of `snn-dt list`, found {', '.join(sorted(missing))}")
    shutil.copy(named.shipped("datasets") / "LICENSE-rl-trained-agents.txt", folder)
    io.write_atomically(folder / "release.json", json.dumps(index, indent=1) + "\n")
    print(f"release: {sum(map(len, index.values()))} names in {folder}")


def facts(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), set(sys.argv[2:]))

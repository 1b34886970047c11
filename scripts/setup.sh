#!/usr/bin/env bash
# Create a virtual environment in .venv and install the package in it, with the versions of constraints.txt.
# Usage: source scripts/setup.sh [extras]      extras such as "dev,mujoco"; none installs the core
# PYTHON names the interpreter (3.11 or newer), SNN_DT_VENV another folder than .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${SNN_DT_VENV:-.venv}"
python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "setup: expected Python 3.11 or newer, found $("$python" --version 2>&1); set PYTHON=/path/to/python3.11" >&2
  exit 2
fi
extras="${1:-}"
"$python" - "$extras" << 'EOF' || exit 2
import sys, tomllib
known = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
unknown = [name for name in sys.argv[1].split(",") if name.strip() not in known] if sys.argv[1] else []
if unknown:
    sys.exit(f"setup: expected extras out of {', '.join(known)}, joined by commas, found {', '.join(map(repr, unknown))}")
EOF
# The stamp identifies the installation: set-up runs again only when these files change.
stamp="$({ cat pyproject.toml constraints.txt; grep __version__ snn_dt/__init__.py; } | cksum | cut -d' ' -f1) $(pwd)"
done_file="$venv/.snn_dt-setup-${extras:-core}"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$done_file" 2>/dev/null)" != "$stamp" ]; then
  echo "setup: installing snn-dt${extras:+[$extras]} into $venv (a few minutes the first time)"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}"
  echo "$stamp" > "$done_file"
fi
# shellcheck disable=SC1091
source "$venv/bin/activate"

#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated Spiking Decision Transformer: set-up, training, evaluation, report.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""
run=runs/quickstart
rm -rf "$run"
snn-dt quickstart --run-dir "$run" "$@"

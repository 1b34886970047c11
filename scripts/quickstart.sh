#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated Spiking Decision Transformer: set-up, training, evaluation, report.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""
run=runs/quickstart
rm -rf "$run"
python scripts/train.py --config configs/quickstart.yaml --run-dir "$run" "$@"
python scripts/evaluate.py --checkpoint "$run" --episodes 20 --target-return 500 100 29 \
  --json "$run/evaluation.json" --report "$run/report"

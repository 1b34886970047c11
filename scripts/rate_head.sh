#!/usr/bin/env bash
# Trains and evaluates SNN-DT with a rate-coded head: what results/rsnn/README.md shows; what is done is left alone.
# Usage: scripts/rate_head.sh cartpole pendulum
set -euo pipefail
cd "$(dirname "$0")/.."
for name in "$@"; do
  run="runs/rate-head/$name" json="results/rsnn/head/$name.json"
  [ -e "$json" ] && continue
  rm -rf "$run"
  mkdir -p results/rsnn/head
  nice -n 10 snn-dt train --config "configs/$name.yaml" configs/variant/snn_dt-rate.yaml --run-dir "$run" \
    --train.threads 1 --eval.episodes 0 --track.wandb disabled
  read -ra targets <<<"$(python -c "import sys, yaml; print(*yaml.safe_load(open(sys.argv[1]))['eval']['target_return'])" "configs/$name.yaml")"
  nice -n 10 snn-dt evaluate --checkpoint "$run" --episodes 50 --threads 1 --json "$json" --target-return "${targets[@]}"
done

#!/usr/bin/env bash
# Does SNN-DT learn with e-prop? Trains and evaluates what results/eprop/README.md shows, with `propagation: spikes`.
# Usage: scripts/eprop.sh ENVIRONMENT SEED...      one training at a time; what is done already is left alone
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1
shift
declare -A targets=([cartpole]="500 29" [pendulum]="-1 -600") steps=([cartpole]=300 [pendulum]=500)
eprop="--train.rule eprop"
declare -A rules=(
  [bptt]="" [eprop]="$eprop" [eprop-all]="$eprop --train.eprop.below eprop"
  [eprop-random]="$eprop --train.eprop.feedback random" [eprop-frozen]="$eprop --train.eprop.below frozen"
)
for seed in "$@"; do
  for name in bptt eprop eprop-random eprop-frozen eprop-all; do
    run="runs/eprop/$environment-$name-seed$seed" json="results/eprop/runs/$environment-$name-seed$seed.json"
    [ -e "$json" ] && continue
    rm -rf "$run"
    mkdir -p results/eprop/runs
    # shellcheck disable=SC2086
    snn-dt train --config "configs/$environment.yaml" configs/variant/snn_dt.yaml --run-dir "$run" --train.seed "$seed" \
      --train.threads 1 --track.wandb disabled --model.d_model 32 --model.context_length 10 --eval.episodes 0 \
      --model.propagation spikes --train.batch_size 32 --train.warmup_steps 50 \
      --train.steps "${steps[$environment]}" ${rules[$name]}
    # shellcheck disable=SC2086
    snn-dt evaluate --checkpoint "$run" --episodes 10 --threads 1 --json "$json" --target-return ${targets[$environment]}
    tail -n 1 "$run/metrics.jsonl" >"${json%.json}.jsonl"
  done
done

#!/usr/bin/env bash
# Does a schedule of the surrogate's slope help offline? Trains and evaluates what results/slopes/README.md shows.
# Usage: scripts/slopes.sh ENVIRONMENT SEED...      one training at a time; what is done already is left alone
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1
shift
declare -A targets=([pendulum]="-1 -600" [hopper]="3600 1200") episodes=([pendulum]=50 [hopper]=20)
declare -A every=([pendulum]=200 [hopper]=300) best=([pendulum]=-1 [hopper]=3600)
follow="--train.eval_every ${every[$environment]} --eval.episodes 5 --eval.target_return ${best[$environment]}"
none="--eval.episodes 0"
declare -A schedules=(
  [fixed-3]="$none" [fixed-10]="$none --model.surrogate_slope 10"
  [linear]="$none --train.slope_schedule.kind linear" [geometric]="$none --train.slope_schedule.kind geometric"
  [adaptive]="--train.slope_schedule.kind adaptive $follow"
)
for seed in "$@"; do
  for name in fixed-3 fixed-10 linear geometric adaptive; do
    run="runs/slopes/$environment-$name-seed$seed" json="results/slopes/runs/$environment-$name-seed$seed.json"
    [ -e "$json" ] && continue
    rm -rf "$run"
    mkdir -p results/slopes/runs
    # shellcheck disable=SC2086
    snn-dt train --config "configs/$environment-snn_dt.yaml" --run-dir "$run" --train.seed "$seed" --train.threads 1 \
      --track.wandb disabled ${schedules[$name]}
    # shellcheck disable=SC2086
    snn-dt evaluate --checkpoint "$run" --episodes "${episodes[$environment]}" --threads 1 --json "$json" \
      --target-return ${targets[$environment]}
    cp "$run/metrics.jsonl" "results/slopes/runs/$environment-$name-seed$seed.jsonl"
  done
done

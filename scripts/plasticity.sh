#!/usr/bin/env bash
# Does plasticity of the action head help? Trains and evaluates what results/plasticity/README.md shows.
# Usage: scripts/plasticity.sh ENVIRONMENT SEED...      one training at a time; what is done already is left alone
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1
shift
declare -A targets=([cartpole]="500 29" [pendulum]="-1 -600") steps=([cartpole]=300 [pendulum]=500)
plastic="--train.plasticity.eta"
declare -A rules=(
  [off]="" [hebbian]="$plastic 0.05" [error]="$plastic 0.005 --train.plasticity.post error"
)
for seed in "$@"; do
  for name in off hebbian error; do
    run="runs/plasticity/$environment-$name-seed$seed" json="results/plasticity/runs/$environment-$name-seed$seed.json"
    [ -e "$json" ] && continue
    rm -rf "$run"
    mkdir -p results/plasticity/runs
    # shellcheck disable=SC2086
    snn-dt train --config "configs/$environment.yaml" configs/variant/snn_dt.yaml --run-dir "$run" --train.seed "$seed" \
      --train.threads 1 --track.wandb disabled --model.d_model 32 --model.context_length 10 --eval.episodes 0 \
      --train.batch_size 32 --train.warmup_steps 50 --train.steps "${steps[$environment]}" ${rules[$name]}
    # shellcheck disable=SC2086
    snn-dt evaluate --checkpoint "$run" --episodes 10 --threads 1 --json "$json" --target-return ${targets[$environment]}
    tail -n 1 "$run/metrics.jsonl" >"${json%.json}.jsonl"
  done
done

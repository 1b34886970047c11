#!/usr/bin/env bash
# Evaluates trained policies with plasticity during rollouts, for results/plasticity/README.md; skips existing results.
# Usage: experiments/local_learning/acting.sh ENVIRONMENT TARGET_RETURN
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=$1 target=$2
declare -A rules=(
  [off]="" [hebbian-0.001]="--plasticity.eta 0.001" [hebbian-0.01]="--plasticity.eta 0.01" [hebbian-0.1]="--plasticity.eta 0.1"
  [error-0.01]="--plasticity.eta 0.01 --plasticity.post error"
  [error-0.1]="--plasticity.eta 0.1 --plasticity.post error"
)
names="off hebbian-0.001 hebbian-0.01 hebbian-0.1"
[ "$environment" = pendulum ] || names="$names error-0.01 error-0.1" # `error` needs discrete actions
mkdir -p results/plasticity/online
for name in $names; do
  json="results/plasticity/online/$environment-$target-$name.json"
  [ -e "$json" ] && continue
  # shellcheck disable=SC2086
  snn-dt evaluate --checkpoint "results/pretrained/$environment-snn_dt" --target-return "$target" --episodes 10 \
    --num-envs 2 --threads 1 --json "$json" ${rules[$name]}
done

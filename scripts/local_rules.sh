#!/usr/bin/env bash
# Do plasticity of the action head and e-prop help, or hurt? Trains and evaluates what results/plasticity/README.md and
# results/eprop/README.md show, on a small model.
# Usage: scripts/local_rules.sh plasticity|eprop ENVIRONMENT SEED...   what is done is left alone
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1 environment=$2
shift 2
declare -A targets=([cartpole]="500 29" [pendulum]="-1 -600")
declare -A rules=(
  [off]="" [hebbian]="--train.plasticity.eta 0.05" [error]="--train.plasticity.eta 0.005 --train.plasticity.post error"
  [bptt]="" [eprop]="--train.rule eprop" [eprop-random]="--train.rule eprop --train.eprop.feedback random"
  [eprop-frozen]="--train.rule eprop --train.eprop.below frozen"
)
declare -A names=([plasticity]="off hebbian error" [eprop]="bptt eprop eprop-random eprop-frozen")
declare -A options=([plasticity]="" [eprop]="--model.propagation spikes")
mkdir -p "results/$kind/runs"
for seed in "$@"; do
  for name in ${names[$kind]}; do
    run="runs/$kind/$environment-$name-seed$seed" json="results/$kind/runs/$environment-$name-seed$seed.json"
    [ -e "$json" ] && continue
    rm -rf "$run"
    # shellcheck disable=SC2086
    snn-dt train --config "configs/$environment.yaml" configs/variant/snn_dt.yaml --run-dir "$run" --train.seed "$seed" \
      --model.d_model 16 --model.n_layers 1 --model.context_length 5 --train.steps 400 --train.batch_size 32 \
      --train.warmup_steps 50 --train.threads 1 --track.wandb disabled --eval.episodes 0 ${options[$kind]} ${rules[$name]}
    # shellcheck disable=SC2086
    snn-dt evaluate --checkpoint "$run" --episodes 10 --threads 1 --json "$json" --target-return ${targets[$environment]}
    tail -n 1 "$run/metrics.jsonl" >"${json%.json}.jsonl"
  done
done

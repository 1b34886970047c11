#!/usr/bin/env bash
# Runs of results/online one after another: hover (methods, ablations, slopes) and fine-tuning, for each of SEEDS.
# Usage: [OUT=FOLDER] [SEEDS="0 1 2"] [LONG=1] experiments/online/run.sh
# An existing run is resumed; a finished one does nothing. LONG=1 trains as long as published (hours).
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${OUT:-runs/online}
SEEDS=${SEEDS:-0}
short=(configs/online/short.yaml)
[ -n "${LONG:-}" ] && short=(configs/online/published.yaml)

go() { # command, name, flags
  local command=$1 run="$OUT/$2"
  shift 2
  if [ -f "$run/config.yaml" ]; then
    snn-dt "$command" --resume "$run"
  else
    snn-dt "$command" "$@" --run-dir "$run" --track.wandb disabled
  fi
}
hover() { # name, method, flags
  local name=$1 method=$2
  shift 2
  go online "$name-seed$seed" --config "configs/online/$method.yaml" "${short[@]}" --train.seed "$seed" "$@"
}

for seed in $SEEDS; do
  near=() # a larger weight of cloning than published: the guide's actions vary by 0.1 only
  [ -z "${LONG:-}" ] && near=(--learn.bc_weight 50)
  hover bc bc
  hover td3bc_jsrl td3bc_jsrl "${near[@]}"
  hover td3bc td3bc "${near[@]}"
  hover td3 td3
  hover jsrl_no_bc jsrl_no_bc
  hover td3bc_no_jump_start td3bc_no_jump_start "${near[@]}"
  hover td3bc_jsrl-k100 td3bc_jsrl "${near[@]}" --actor.slope_schedule fixed --actor.surrogate_slope 100
  hover td3bc_jsrl-k2 td3bc_jsrl "${near[@]}" --actor.slope_schedule fixed
  for task in acrobot pendulum hopper; do
    go finetune "ft-$task-top-seed$seed" --config "configs/finetune/$task-snn_dt.yaml" --update.seed "$seed"
    [ "$task" = acrobot ] && continue # critics need continuous actions
    go finetune "ft-$task-critic-seed$seed" --config "configs/finetune/$task-snn_dt.yaml" --update.seed "$seed" \
      --update.q_weight 1
  done
done
python experiments/online/results.py "$OUT"

#!/usr/bin/env bash
# Runs of results/online, one after another: hover (methods, ablation, slopes) and fine-tuning, SEEDS each ("0 1 2").
# A run that is there is left alone, one that was cut off goes on. LONG=1 trains as long as was published (hours).
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
  near=() # what keeps to the recorded actions keeps closer than published: the guide's vary by 0.1 alone
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
    [ "$task" = acrobot ] && continue # choices, which critics do not judge
    go finetune "ft-$task-critic-seed$seed" --config "configs/finetune/$task-snn_dt.yaml" --update.seed "$seed" \
      --update.q_weight 1
  done
done
python experiments/online/results.py "$OUT"

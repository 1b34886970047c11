#!/usr/bin/env bash
# Runs of results/online one after another: hover (methods) and fine-tuning, for each of SEEDS.
# Usage: [OUT=FOLDER] [SEEDS="0 1 2"] [LONG=1] [SLOPES=1] experiments/online/run.sh
# An existing run is resumed; a finished one does nothing. LONG=1 trains as long as published (hours).
# SLOPES=1 compares surrogate slopes instead (ten seconds a run).
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${OUT:-runs/online}
SEEDS=${SEEDS:-0}
short=(configs/online/short.yaml)
[ -n "${LONG:-}" ] && short=(configs/online/published.yaml)

mlp=(--guide.kind ppo --guide.load hover)
differ=(--task.mass 0.2 --task.thrust 0.1 --task.rotor_lag 0.3 --task.noise 1 --task.delay 1 2 --task.commands 8)
further=(--learn.exploration 0.1 --learn.actor_rate 1e-4 --train.iterations 40 --train.eval_every 5)

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

slope() { # name, flags
  local name=$1
  shift
  go online "slope_$name-seed$seed" --config configs/online/dagger.yaml --train.seed "$seed" "${mlp[@]}" --task.drones 16 \
    --learn.length 50 --learn.batch_size 32 --train.updates 25 --train.iterations 6 --train.eval_every 1 --eval.flights 32 "$@"
}

for seed in $SEEDS; do
  if [ -n "${SLOPES:-}" ]; then
    slope fixed2
    slope fixed100 --actor.surrogate_slope 100
    slope interval --actor.slope_schedule linear
    slope adaptive --actor.slope_schedule adaptive
    continue
  fi
  go online "dagger-seed$seed" --config configs/online/dagger.yaml --train.seed "$seed"
  go online "dagger_mlp-seed$seed" --config configs/online/dagger.yaml --train.seed "$seed" "${mlp[@]}" --train.iterations 12
  go online "dagger_robust-seed$seed" --config configs/online/dagger.yaml --train.seed "$seed" --guide.skill 1 "${differ[@]}"
  go online "dagger_ppo-seed$seed" --config configs/online/ppo.yaml --learn.start "$OUT/dagger_mlp-seed$seed" \
    --train.seed "$seed" "${further[@]}"
  for method in bc td3bc td3bc_jsrl; do hover "$method" "$method"; done
  for task in acrobot pendulum hopper; do
    go finetune "ft-$task-top-seed$seed" --config "configs/finetune/$task-snn_dt.yaml" --update.seed "$seed"
    [ "$task" = acrobot ] && continue # critics need continuous actions
    go finetune "ft-$task-critic-seed$seed" --config "configs/finetune/$task-snn_dt.yaml" --update.seed "$seed" \
      --update.q_weight 1
  done
done
python experiments/online/results.py "$OUT"

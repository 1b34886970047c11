#!/usr/bin/env bash
# Trains the runs of results/rsnn/README.md one after another; skips runs with a record.
# Usage: experiments/rsnn/run.sh NAME...      NAME is a key of `runs` below, such as pattern-random
set -euo pipefail
cd "$(dirname "$0")/../.."
c="--config configs/rsnn/classes.yaml" h="--config configs/rsnn/hebbian.yaml"
s="--config configs/rsnn/classes.yaml configs/rsnn/sparse.yaml"
e="--config configs/rsnn/evidence.yaml" p="--config configs/rsnn/pattern.yaml"
adaptive="--network.feedback adaptive --learn.weight_decay"
declare -A runs=(
  [pattern-bptt]="$p --learn.rule bptt" [pattern-symmetric]="$p --network.feedback symmetric" [pattern-random]="$p"
  [pattern-adaptive]="$p $adaptive 10"
  [hebbian-sign]="$h --hebbian.reward sign" [hebbian-margin]="$h" [hebbian-falling]="$h --hebbian.steepness -100"
  [classes-eprop]="$c" [classes-bptt]="$c --learn.rule bptt" [classes-sparse]="$s"
  [classes-topology]="$s --penalty.weights 0 --penalty.operations 0" [classes-penalties]="$s --topology.every 0"
  [evidence-bptt]="$e --learn.rule bptt" [evidence-symmetric]="$e --network.feedback symmetric" [evidence-random]="$e"
  [evidence-adaptive]="$e $adaptive 0.2" [evidence-lif]="$e --learn.rule bptt --network.adaptive 0 --learn.steps 200"
)
for name in "$@"; do
  run="runs/rsnn/$name" record="results/rsnn/runs/$name.jsonl"
  [ -e "$record" ] && continue
  rm -rf "$run"
  mkdir -p results/rsnn/runs
  # shellcheck disable=SC2086
  nice -n 10 snn-dt rsnn --run-dir "$run" ${runs[$name]} --learn.threads 1 --track.wandb disabled
  cp "$run/metrics.jsonl" "$record"
done

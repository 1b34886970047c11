#!/usr/bin/env bash
# A new user with nothing but the wheel: build it, install it without network, and work in an empty folder. Every step is
# timed; the first that fails ends the script with its output.
#
#   bash scripts/new_user.sh           as a user would; QUICK=1 trains a few updates only (as .ci/run does)
#
# PYTHONS names the interpreters ("python3.11 python3.12"); one that is missing, or for which no torch is found, is skipped
# with its reason. KEEP=1 keeps the folder. A new step is a function and a line in STEPS; `skip REASON` in it leaves it out.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/snn_dt-new-user-XXXXXX")
[ -n "${KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
steps=600 shorter=() extras=hub,tensorboard
[ -z "${QUICK:-}" ] || { steps=20 shorter=(--train.steps 60 --eval.episodes 0) extras=hub; }

STEPS=(
  "names                      list_names"
  "quickstart                 quickstart"
  "own Minari dataset         own_minari"
  "own numpy arrays           own_arrays"
  "evaluate a pretrained one  evaluate_pretrained"
  "from_pretrained by name    by_name"
  "a wrong name               wrong_name"
  "report in Chromium         open_report"
  "push to a hub, load back   publish"
  "import from Hugging Face   import_weights"
  "offline wandb              track_wandb"
  "TensorBoard                track_tensorboard"
)

list_names() {
  snn-dt list | tee list.txt
  [ "$(wc -L < list.txt)" -le 80 ]
  rm list.txt
  snn-dt list --json | python -c 'import json, sys; assert "cartpole-snn_dt" in json.load(sys.stdin)["pretrained"]'
}

quickstart() {
  snn-dt quickstart "${shorter[@]}"
  [ -s runs/quickstart/report/report.html ]
  [ -s runs/quickstart/evaluation.json ]
}

own_minari() {
  snn-dt data collect CartPole-v1 --id mine/cartpole/random-v0 --episodes 60
  snn-dt train --data.dataset minari:mine/cartpole/random-v0 --run-dir runs/own --train.steps "$steps" --eval.episodes 2
}

own_arrays() {
  python - "$steps" << 'EOF'
import sys
from dataclasses import replace

import numpy as np

import snn_dt

# Three lines for arrays of your own: the arrays, the trajectories, the training.
rng, ends = np.random.default_rng(0), np.arange(2000) % 50 == 49
observations, actions, rewards = rng.normal(size=(2000, 3)), rng.uniform(-1, 1, (2000, 2)), rng.uniform(size=2000)
data = snn_dt.Trajectories.from_arrays(observations, actions, rewards, ends, np.zeros(2000, bool))
config = snn_dt.Config()
run = snn_dt.train(replace(config, train=replace(config.train, steps=int(sys.argv[1]))), "runs/arrays", data)
policy = snn_dt.from_pretrained("runs/arrays")
policy.reset(target_return=20.0)
assert policy.act(observations[0]).shape == (2,)
EOF
}

evaluate_pretrained() {
  snn-dt evaluate --checkpoint cartpole-snn_dt --target-return 500 --episodes 5 --json out.json
  python -c 'import json; [row] = json.load(open("out.json")); assert row["return_mean"] > 400, row["return_mean"]'
}

by_name() {
  python -c '
import snn_dt
policy = snn_dt.from_pretrained("cartpole-snn_dt")
data = snn_dt.load_dataset("minari:sb3/cartpole/mixed-v0")
policy.reset(target_return=500.0)
print(policy.act(data.observations[0]), snn_dt.load_config("configs/cartpole.yaml").data.dataset)'
}

open_report() {
  command -v chromium chromium-browser google-chrome > /dev/null || skip "no Chromium: apt-get install chromium"
  local width
  for width in 1280 400; do
    python "$root/tests/browser.py" runs/quickstart/report/report.html "$width" | tee said
    grep -q quickstart said
  done
}

publish() {
  python "$root/tests/hub_double.py" > address &
  trap "kill $!" EXIT
  until [ -s address ]; do sleep 0.1; done
  export HF_ENDPOINT HF_TOKEN=a-token NO_PROXY=127.0.0.1
  HF_ENDPOINT=$(< address)
  snn-dt hub push runs/quickstart someone/cartpole --evaluation runs/quickstart/evaluation.json
  python -c '
import snn_dt, torch
ours, theirs = snn_dt.from_pretrained("runs/quickstart"), snn_dt.from_pretrained("someone/cartpole")
assert ours.spec == theirs.spec
assert all(torch.equal(x, theirs.model.state_dict()[name]) for name, x in ours.model.state_dict().items())'
}

import_weights() {
  python << 'EOF'
import json
import os

import torch
from safetensors.torch import save_file

# What DecisionTransformerModel.save_pretrained of transformers writes: width 8, 3 observations, 2 actions, one block.
d, shapes = 8, {"embed_timestep.weight": (30, 8), "embed_return.weight": (8, 1), "embed_state.weight": (8, 3)}
shapes |= {"encoder.wpe.weight": (90, 8), "embed_action.weight": (8, 2), "predict_action.0.weight": (2, 8), "predict_action.0.bias": (2,)}
names = [f"{norm}.{part}" for norm in ("h.0.ln_1", "h.0.ln_2", "ln_f") for part in ("weight", "bias")]
shapes |= {f"encoder.{name}": (d,) for name in names} | {"embed_ln.weight": (d,)}
shapes |= {f"embed_{name}.bias": (d,) for name in ("return", "state", "action", "ln")}
for name, inner, outer in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)):
    shapes |= {f"encoder.h.0.{name}.weight": (inner * d, outer * d), f"encoder.h.0.{name}.bias": (outer * d,)}
os.mkdir("theirs")
save_file({name: torch.randn(shape) for name, shape in shapes.items()}, "theirs/model.safetensors")
json.dump({"model_type": "decision_transformer", "n_head": 1, "hidden_size": d}, open("theirs/config.json", "w"))
json.dump({"state_mean": [0.0] * 3, "state_std": [1.0] * 3}, open("stats.json", "w"))
EOF
  snn-dt import hf theirs --stats stats.json --target-return 50 --out policies/imported
  python -c 'import snn_dt; p = snn_dt.from_pretrained("policies/imported"); p.reset(); assert p.act([0, 1, 2]).shape == (2,)'
}

track_wandb() {
  snn-dt train cartpole --track.tracker wandb --track.wandb offline --train.steps 20 --eval.episodes 0 --run-dir runs/wandb
  [ -s runs/wandb/wandb/offline-run-*/run-*.wandb ]
}

track_tensorboard() {
  python -c 'import tensorboard' 2> /dev/null || skip "not installed: pip install 'snn-dt[tensorboard]'"
  snn-dt train cartpole --track.tracker tensorboard --train.steps 20 --eval.episodes 0 --run-dir runs/tensorboard
  python -c '
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("runs/tensorboard/tensorboard")
events.Reload()
assert "train/loss" in events.Tags()["scalars"], events.Tags()'
}

wrong_name() {
  local said status=0
  said=$(snn-dt train cartpol 2>&1) || status=$?
  [ "$status" -eq 2 ]
  [[ "$said" == *"did you mean 'cartpole'"* ]]
  status=0
  said=$(snn-dt evaluate --checkpoint hopper-snn_dt 2>&1) || status=$?
  [ "$status" -eq 2 ]
  [[ "$said" == *"--release"* ]]
}

# Sizes and metadata of what would be published.
build() {
  python -m venv "$work/tools"
  "$work/tools/bin/pip" install --quiet build twine hatchling hatch-fancy-pypi-readme
  "$work/tools/bin/python" -m build --no-isolation --outdir "$work/dist" "$root"
  "$work/tools/bin/twine" check --strict "$work"/dist/*
  [ "$(stat -c %s "$work"/dist/*.whl)" -lt 6000000 ] && [ "$(stat -c %s "$work"/dist/*.tar.gz)" -lt 2000000 ]
}

# What a machine without network does: all wheels are fetched on another one first.
install() {
  "$work/venv/bin/pip" download --quiet -c "$root/constraints.txt" -d "$work/wheels" "$(echo "$work"/dist/*.whl)[$extras]"
  env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null "$work/venv/bin/pip" install --quiet --no-index \
    --find-links "$work/wheels" "snn-dt[$extras]"
}

skip() { # REASON
  echo "$*" > "$work/reason"
  exit 77
}

table=()
TIMEFORMAT='%0R %0U %0S'
timed() { # NAME COMMAND...
  local name=$1 status=0 log="$work/log" wall user system
  shift
  # Not in a condition, nor before ||: there `set -e` has no effect in the step, and only its last line could fail.
  set +e
  { time { (set -e; "$@") > "$log" 2>&1; }; } 2> "$work/times"
  status=$?
  set -e
  read -r wall user system < "$work/times"
  case $status in
    0) table+=("$(printf '%-36s %5d s %5d s' "$name" "$wall" $((user + system)))") ;;
    77) table+=("$(printf '%-36s skipped, %s' "$name" "$(< "$work/reason")")") ;;
    *)
      cat "$log"
      echo "new user: $name failed with status $status" >&2
      exit 1
      ;;
  esac
  echo "${table[-1]}"
}

export PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH SNN_DT_CACHE SNN_DT_RELEASE MINARI_DATASETS_PATH HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE
timed "build, twine check" build
for python in ${PYTHONS:-python3}; do
  if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null); then
    table+=("$python: skipped, there is no such interpreter")
    continue
  fi
  rm -rf "$work/venv" "$work/wheels" "$work/home" "$work/empty"
  mkdir "$work/home" "$work/empty"
  "$python" -m venv "$work/venv"
  if ! "$work/venv/bin/pip" download --quiet --no-deps -c "$root/constraints.txt" -d "$work/wheels" torch > "$work/log" 2>&1; then
    table+=("$version: skipped, no torch: $(tail -1 "$work/log")")
    continue
  fi
  timed "$version: download, install offline" install
  before=$PATH home=$HOME
  export HOME="$work/home" PATH="$work/venv/bin:$PATH" WANDB_MODE=offline
  cd "$work/empty"
  for step in "${STEPS[@]}"; do
    timed "$version: ${step%  *}" "${step##* }"
  done
  cd "$root"
  export PATH=$before HOME=$home
done
printf '\n%-36s %7s %7s\n' "A new user:" time CPU
printf '%s\n' "${table[@]}"

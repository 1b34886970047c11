"""Count the instructions of a decision of a policy's C on Cortex-M, in QEMU; see scripts/microcontroller.sh.

Each policy is exported, rolled out on this machine for its return, and run on the recorded inputs of one episode on two
boards of QEMU: mps2-an386 (Cortex-M4F) and mps2-an385 (Cortex-M3, without floating point).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "scripts" / "microcontroller"
OUT = ROOT / "results" / "microcontroller"
BOARDS = {
    "m4f": ("mps2-an386", ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]),
    "m3": ("mps2-an385", ["-mcpu=cortex-m3", "-mfloat-abi=soft"]),
}
FLAGS = ["-std=c99", "-O2", "-mthumb", "-fno-math-errno", "-ffunction-sections", "-fdata-sections", "-nostartfiles"]
DECISIONS = 200
EPISODES = 100
SEED = 1_000_000
SPAN = ["--model.attention_span", "10", "--model.context_length", "20", "--train.batch_size", "32"]
POLICIES = {
    "cartpole-dense": ["cartpole.yaml", "variant/dense.yaml", *SPAN],
    "cartpole-snn_dt": ["cartpole.yaml", "variant/snn_dt-full.yaml", *SPAN],
    "cartpole-snn_dt_stream": None,
    "cartpole-dense-d32": ["cartpole.yaml", "variant/dense.yaml", "--model.d_model", "32", *SPAN],
    "cartpole-snn_dt_stream-d32": [
        "cartpole.yaml",
        "variant/snn_dt_stream.yaml",
        "--model.d_model",
        "32",
        "--train.steps",
        "1500",
    ],
    "pendulum-dense": ["pendulum.yaml", "variant/dense.yaml", *SPAN],
    "pendulum-snn_dt_stream": None,
    "hopper-snn_dt_stream": None,
    "hover-actor": ["online/dagger.yaml", "--guide.kind", "ppo", "--guide.load", "hover", "--train.iterations", "12"],
}
"""Configs and flags of the training of each policy. None: it ships in results/pretrained."""


def checkpoint(name: str, runs: Path) -> Path:
    """Return the checkpoint of a policy; train it if it neither ships nor is there."""
    options = POLICIES[name]
    if options is None:
        return ROOT / "results" / "pretrained" / name
    if not (runs / name).is_dir():
        configs = [f"configs/{word}" for word in options if word.endswith(".yaml")]
        flags = [word for word in options if not word.endswith(".yaml")]
        kind = "online" if name == "hover-actor" else "train"
        command = [sys.executable, "-m", "snn_dt.cli.main", kind, "--config", *configs, *flags]
        subprocess.run([*command, "--run-dir", str(runs / name), "--track.wandb", "disabled"], cwd=ROOT, check=True)
    return runs / name


def record(policy: Any, target: float) -> tuple[np.ndarray, list[float], list[Any]]:
    """Return observations, rewards and actions of the first decisions of an episode on this machine."""
    from snn_dt.evaluation.environments import make_environment

    env = make_environment(policy)
    observation, _ = env.reset(seed=SEED)
    policy.reset(target)
    observations, rewards, actions = [], [], []
    while len(rewards) < DECISIONS:
        observations.append(policy.flatten(observation))
        actions.append(policy.act(observation))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        policy.observe(float(reward))
        rewards.append(float(reward))
        if terminated or truncated:
            break
    env.close()
    return np.array(observations), rewards, actions


def records_header(policy: Any, observations: np.ndarray, rewards: list[float], target: float) -> str:
    """Return `records.h`: the inputs, and how main.c calls `act`."""
    rows = ",\n".join(", ".join(map(repr, map(float, row))) for row in observations)
    act = "bits.whole = (uint32_t)policy_act(&state, OBSERVATIONS[i]);"
    if not policy.discrete:
        act = "policy_act(&state, OBSERVATIONS[i], bits.number);"
    return (
        f"#define RECORDS {len(rewards)}\n#define TARGET {target!r}\n"
        f"#define NUMBERS {1 if policy.discrete else policy.action_dim}\n"
        "union action { float number[NUMBERS]; uint32_t word[NUMBERS], whole; };\n"
        f"#define ACT union action bits; {act}\n"
        '#define RECORDED static const __attribute__((section(".records")))\n'
        f"RECORDED policy_observation OBSERVATIONS[RECORDS][POLICY_OBSERVATIONS] = {{\n{rows}\n}};\n"
        f"RECORDED double REWARDS[RECORDS] = {{{', '.join(map(repr, rewards))}}};\n"
    )


def run_on(board: str, folder: Path, actions: list[Any]) -> dict[str, Any]:
    """Build and run the exported policy of a folder on a board of QEMU."""
    machine, flags = BOARDS[board]
    elf = folder / f"{board}.elf"
    sources = [str(HERE / "main.c"), str(folder / "policy.c")]
    linking = [f"-T{HERE / 'link.ld'}", "-Wl,--gc-sections", "-o", str(elf), "-lm"]
    subprocess.run(["arm-none-eabi-gcc", *flags, *FLAGS, f"-I{folder}", *sources, *linking], check=True)
    size_of = ["arm-none-eabi-size", "-A", str(elf)]
    sections = subprocess.run(size_of, capture_output=True, text=True, check=True).stdout
    size = {w[0]: int(w[1]) for line in sections.splitlines() if len(w := line.split()) == 3 and w[1].isdigit()}
    qemu = ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting-config", "enable=on,target=native"]
    done = subprocess.run(
        [*qemu, "-icount", "shift=0", "-kernel", str(elf)], capture_output=True, text=True, check=True, timeout=600
    )
    lines = (done.stdout + done.stderr).split("\n")
    rows = np.array([list(map(int, line.split())) for line in lines if line and line.replace(" ", "").isdigit()])
    facts = {w[1]: int(w[0]) for line in lines if len(w := line.split()) == 2 and w[0].isdigit() and w[1].isalpha()}
    words = rows[:, 2:].astype(np.uint32)
    ours = words.astype(np.int64)[:, 0] if np.ndim(actions[0]) == 0 else words.view(np.float32)
    difference = np.abs(ours - np.array(actions, dtype=np.float64).reshape(ours.shape)).reshape(len(rows), -1).max(1)
    return {
        "instructions_median": int(np.median(rows[:, 0])),
        "instructions_worst": int(rows[:, 0].max()),
        "spikes": float(rows[:, 1].mean()),
        "flash_bytes": size[".text"] + size.get(".data", 0) + size.get(".ARM.exidx", 0),
        "ram_bytes": facts["state"] + size.get(".data", 0) + facts["stack"],
        "state_bytes": facts["state"],
        "stack_bytes": facts["stack"],
        "actions_equal": float((difference <= 1e-5).mean()),
    }


def measure(name: str, weights: str, runs: Path) -> dict[str, Any]:
    """Return the row of a policy: its return here and its counts on every board."""
    from snn_dt.cli.export import read_any
    from snn_dt.export.c_policy import write_c
    from snn_dt.export.compiled_policy import CompiledPolicy, evaluate_compiled

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trained = read_any(checkpoint(name, runs))
        write_c(trained, folder, weights)
        policy = CompiledPolicy(folder)
        target = policy.spec.target_return
        found = evaluate_compiled(policy, [target], episodes=EPISODES, seed=SEED)[0]
        observations, rewards, actions = record(policy, target)
        (folder / "records.h").write_text(records_header(policy, observations, rewards, target))
        config = trained.model.config
        row = {"policy": name, "weights": weights, "kind": config.kind, "width": config.d_model}
        row |= {key: found[key] for key in ("target_return", "episodes", "return_mean", "return_interval")}
        row["normalized_score"] = found["normalized_score"]
        return row | {"decisions": len(rewards), "boards": {board: run_on(board, folder, actions) for board in BOARDS}}


def write_page(rows: list[dict[str, Any]], path: Path) -> None:
    """Replace the table between the marks of the page."""
    lines = [
        "| policy | weights | return | score | spikes | M4F median (worst) | M3 median (worst) | flash kB | RAM kB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda r: list(POLICIES).index(r["policy"])):
        m4f, m3 = row["boards"]["m4f"], row["boards"]["m3"]
        score = "-" if row["normalized_score"] is None else f"{row['normalized_score']:.1f}"
        cells = [row["policy"], row["weights"], f"{row['return_mean']:.1f}", score, f"{m3['spikes']:.0f}"]
        cells += [f"{b['instructions_median']:,} ({b['instructions_worst']:,})" for b in (m4f, m3)]
        cells += [f"{m3[name] / 1000:.1f}" for name in ("flash_bytes", "ram_bytes")]
        lines.append(f"| {' | '.join(cells)} |")
    begin, end = "<!-- table -->", "<!-- end of table -->"
    text = path.read_text() if path.exists() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(before + begin + "\n\n" + "\n".join(lines) + "\n\n" + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(POLICIES), help="names of policies")
    runs = ROOT / "runs" / "microcontroller"
    parser.add_argument("--runs", type=Path, default=runs, help="where checkpoints are trained")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "microcontroller.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    for name in args.only:
        for weights in ("float32", "int8"):
            row = measure(name, weights, args.runs)
            print(name, weights, f"{row['return_mean']:.4g}", row["boards"], flush=True)
            rows = [r for r in rows if (r["policy"], r["weights"]) != (name, weights)] + [row]
            file.write_text(json.dumps(rows, indent=1) + "\n")
    write_page(rows, args.out / "README.md")


if __name__ == "__main__":
    main()

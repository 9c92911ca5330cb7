"""Measures Palimpsest beside its peers, in turns, and prints the ratios.

    make bench                      all
    python bench/run.py training    some: training, loss, host, checkpoints, generate, serving,
                                    prepare, memory, learn, growth, operator

Ends with code 1, and says so, where a target is missed. Writes bench/results/NAME.json; growth-size, growth-length and growth-rows are the parts of growth. Build first (`make
build`): it measures target/debug/palimpsest, the build that the README names, or the binary that $PALIMPSEST names.
"""

import json
import logging
import os
import platform
import subprocess
import sys
from pathlib import Path

import checkpoints
import data
import generation
import growth
import operator_load
import serving
from training import case

# (name, target, what is measured). The target is the least speed: the peer's time over ours.
TRAINING = [
    ("8.5M, float32", 1.1, dict(shape=(256, 6, 8192), batch=(8, 256), threads=os.cpu_count())),
    ("8.5M, vocabulary 32,000", 1.3, dict(shape=(256, 6, 32000), batch=(8, 256), threads=os.cpu_count(), repetitions=6)),
    ("1M, vocabulary 2,048", 1.3, dict(shape=(128, 4, 2048), batch=(8, 256), threads=os.cpu_count(), repetitions=20)),
]
BFLOAT16 = ("8.5M, bfloat16", 1.2, dict(TRAINING[0][2], precision="bfloat16"))
LOSS = [("69,104 ids, 4,096 tokens", 1.0, dict(shape=(512, 1, 69104), batch=(1, 4096), threads=os.cpu_count(),
                                              rounds=3, repetitions=2))]
# Over weights and hidden states; the full logits are 1.1 GB.
LOSS_MEMORY = 200e6
HOST = [("32 layers of 64, 1 x 8 tokens", 2.0, dict(shape=(64, 32, 2048), batch=(1, 8), threads=1, repetitions=40))]


def cpu():
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    return {"model": fields.get("model name", platform.machine()), "cores": os.cpu_count(),
            "avx512": "avx512f" in flags, "avx512_bf16": "avx512_bf16" in flags}


def suites(machine):
    training = list(TRAINING)
    if not machine["avx512"]:
        # The peer already runs at the rate of the matrix product.
        name, _, settings = training[0]
        training[0] = (name, 1.0, settings)
    if machine["avx512_bf16"]:
        training.append(BFLOAT16)
    return {
        "training": ("train", training),
        "loss": ("loss", LOSS),
        "host": ("train", HOST),
    }


def print_heading():
    print(f"{'':30} {'speed':>6} {'spread':11} {'of CPU':>6} {'target':>7} {'ours ms':>10} {'theirs ms':>10} "
          f"{'peak MB':>8} {'theirs':>8} {'work MB':>8} {'theirs':>8} {'loss':>9}")


def print_row(name, target, result):
    ours, theirs = result["ours"], result["theirs"]
    print(f"{name:30} {result['speed']:6.2f} {result['lowest']:5.2f}-{result['highest']:<5.2f} "
          f"{result['cpuSpeed']:6.2f} {target:7.2f} {ours['seconds'] * 1e3:10.2f} {theirs['seconds'] * 1e3:10.2f} "
          f"{ours['peak'] / 1e6:8.0f} {theirs['peak'] / 1e6:8.0f} "
          f"{ours['workingMemory'] / 1e6:8.0f} {theirs['workingMemory'] / 1e6:8.0f} {result['lossDifference']:9.1e}", flush=True)
    if theirs["operators"]:
        print(f"{'':30} operators of ATen: {ours['operators']} and {theirs['operators']}", flush=True)


def missed(row):
    """What a row was to reach and did not, a sentence each."""
    sentences = []
    if row.get("speed", 0) < row.get("target", 0):
        sentences.append(f"speed {row['speed']:.2f} is below {row['target']}")
    sides = "ours" in row and "theirs" in row
    if sides and "workingMemory" in row["ours"] and row["ours"]["peak"] > row["theirs"]["peak"]:
        sentences.append(f"{row['ours']['peak'] / 1e6:.0f} MB are more than the peer's {row['theirs']['peak'] / 1e6:.0f}")
    ours = {**row.get("ours", {}), **row}
    for figure, most in (("peak", "mostMemory"), ("workingMemory", "mostWorkingMemory"), ("writes", "mostWrites"), ("share", "most")):
        if most in row and ours[figure] > row[most]:
            sentences.append(f"{figure} {ours[figure]:.3g} is above {row[most]:.3g}")
    return [f"{row['name']}: {sentence}" for sentence in sentences]


def main():
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    logging.disable(logging.WARNING)
    machine = cpu()
    available = suites(machine)
    names = [*available, "checkpoints", "generate", "serving", *data.SUITES, "growth", "operator"]
    wanted = sys.argv[1:] or names
    unknown = [name for name in wanted if name not in {*names, *growth.SUITES}]
    if unknown:
        sys.exit(f"there is no suite {unknown[0]}; name {', '.join(names)}")
    if len(wanted) > 1:
        # Each in a process of its own: what one has loaded counts as memory of the programs that the next one starts.
        ended = {name: subprocess.run([sys.executable, __file__, name]).returncode for name in wanted}
        failed = [name for name, code in ended.items() if code]
        sys.exit(f"missed or broken: {', '.join(failed)}" if failed else 0)
    print(f"{machine['model']}, {machine['cores']} cores, {'with' if machine['avx512'] else 'without'} AVX-512")
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    name = wanted[0]
    if name in growth.SUITES:
        growth.suite(name, results, machine)
        return
    if name in available:
        rows = compared(*available[name])
    elif name in data.SUITES:
        rows = data.suite(name)
    else:
        suites_of = {"checkpoints": checkpoints, "generate": generation, "serving": serving, "operator": operator_load}
        rows = suites_of[name].suite(machine) if name in ("generate", "serving") else suites_of[name].suite()
    Path(results, f"{name}.json").write_text(json.dumps({"cpu": machine, "results": rows}, indent=1))
    sentences = [sentence for row in rows for sentence in missed(row)]
    sys.exit("\n".join(sentences) or 0)


def compared(kind, cases):
    rows = []
    print_heading()
    for title, target, settings in cases:
        result = case(kind, **settings)
        print_row(title, target, result)
        rows.append({"name": title, "target": target, **result})
        if kind == "loss":
            rows[-1]["mostWorkingMemory"] = LOSS_MEMORY
    return rows


if __name__ == "__main__":
    main()

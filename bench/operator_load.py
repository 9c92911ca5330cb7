"""How fast the operator gives very many jobs their children, beside a bare loop that makes the same writes."""

import json
import os
import statistics
import subprocess
import sys

from common import PALIMPSEST

LOAD = PALIMPSEST.with_name("operator-load")
JOBS = int(os.environ.get("PALIMPSEST_LOAD_JOBS", 10_000))
TURNS = os.environ.get("PALIMPSEST_LOAD_TURNS", "operator,bare,operator")
LEAST_SPEED, MOST_WRITES, MOST_MEMORY = 0.4, 6.0, 200e6


def turns(jobs, order):
    """One after the other, against one API server; each as it ends."""
    if not LOAD.exists():
        sys.exit(f"{LOAD} is not there: run `cargo build --workspace --bin operator-load` first")
    command = [LOAD, "--jobs", str(jobs), "--turns", order]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        sys.exit(f"operator-load ended with code {process.returncode}; its own words are above")


def print_turn(turn):
    peak = f"{turn['peak'] / 1e6:8.0f}" if "peak" in turn else f"{'':8}"
    print(f"{turn['turn']:10} {turn['jobs'] / turn['seconds']:8.1f} {turn['seconds']:8.1f} {turn['writes'] / turn['jobs']:7.2f} "
          f"{turn['cpuSeconds'] / turn['jobs'] * 1e3:7.2f} {peak}", flush=True)


def suite():
    """Measures, prints and compares."""
    print(f"{JOBS:,} jobs at once")
    print(f"{'turn':10} {'jobs/s':>8} {'s':>8} {'writes':>7} {'CPU ms':>7} {'peak MB':>8}")
    done = []
    for turn in turns(JOBS, TURNS):
        print_turn(turn)
        missing = {name: count for name, count in turn["state"].items() if count < turn["jobs"]}
        if missing:
            sys.exit(f"{turn['turn']}: not every one of {turn['jobs']} jobs has its children: {missing}")
        done.append(turn)
    rates = {side: [turn["jobs"] / turn["seconds"] for turn in done if turn["turn"] == side] for side in ("operator", "bare")}
    operators = [turn for turn in done if turn["turn"] == "operator"]
    row = {
        "name": f"{JOBS} jobs", "speed": statistics.median(rates["operator"]) / statistics.median(rates["bare"]),
        "lowest": min(rates["operator"]) / max(rates["bare"]), "highest": max(rates["operator"]) / min(rates["bare"]),
        "target": LEAST_SPEED, "writes": max(turn["writes"] / turn["jobs"] for turn in operators), "mostWrites": MOST_WRITES,
        "peak": max(turn["peak"] for turn in operators), "mostMemory": MOST_MEMORY, "turns": done,
    }
    print(f"speed {row['speed']:.2f} ({row['lowest']:.2f}-{row['highest']:.2f}, target {LEAST_SPEED}), "
          f"{row['writes']:.2f} writes a job (at most {MOST_WRITES:.0f}), {row['peak'] / 1e6:.0f} MB (less than {MOST_MEMORY / 1e6:.0f})")
    for what, count in operators[-1]["requests"].items():
        print(f"    {what:30} {count:6.2f} a job")
    return [row]

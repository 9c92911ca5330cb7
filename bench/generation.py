"""Generating: requests that come at once, through our engine and as a static batch of the peer, without servers."""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from common import ENVIRONMENT, PALIMPSEST, Side, write_model

MODEL = Path(os.environ.get("PALIMPSEST_CACHE", Path.home() / ".cache/palimpsest")) / "data/models/smollm2-135m"
PROMPT, NEW = 128, 64
# (requests at once, target: ours in tokens/s by the peer's).
CASES = [(1, 1.25), (16, 1.6), (64, 1.3)]


def sides(model, requests, precision, threads):
    ours = [PALIMPSEST, "bench", "infer", "--model", model, "--requests", requests, "--prompt", PROMPT, "--new", NEW,
            "--threads", threads, "--precision", precision, "--cache-memory", 1024, "--turns"]
    theirs = [sys.executable, Path(__file__).with_name("generate_peer.py"), model, requests, PROMPT, NEW, threads, precision]
    return Side("palimpsest", ours, ENVIRONMENT), Side("the peer", theirs, {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)})


def case(model, requests, precision, threads, rounds=3):
    """A round's ratio is that of its times; the result the median of all rounds' ratios."""
    pair = sides(model, requests, precision, threads)
    for side in pair:
        side.turn(1)
        side.turns.clear()
    for number in range(rounds):
        for side in pair if number % 2 == 0 else pair[::-1]:
            side.turn(1)
    for side in pair:
        side.close()
    ours, theirs = (side.turns for side in pair)
    ratios = sorted(their["seconds"] / our["seconds"] for our, their in zip(ours, theirs))
    rate = lambda turns: requests * NEW / statistics.median(turn["seconds"] for turn in turns)
    return {"speed": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1],
            "ours": {"tokensPerSecond": rate(ours), "peak": ours[-1]["peak"]},
            "theirs": {"tokensPerSecond": rate(theirs), "peak": theirs[-1]["peak"]}}


def suite(machine):
    if not MODEL.is_dir():
        sys.exit(f"there is no {MODEL}; scripts/smollm2.sh makes it")
    cases = [(f"SmolLM2-135M, {precision}, {requests} at once", target, (MODEL, requests, precision, os.cpu_count()))
             for precision in ["float32"] + ["bfloat16"] * machine["avx512_bf16"] for requests, target in CASES]
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, 64, 32, 2048)
        return measured([*cases, ("32 layers of 64, alone, one thread", 5.0, (folder, 1, "float32", 1))])


def measured(cases):
    print(f"{'':36} {'speed':>6} {'spread':11} {'target':>7} {'tokens/s':>9} {'theirs':>9} {'peak MB':>8} {'theirs':>8}")
    rows = []
    for name, target, settings in cases:
        result = case(*settings)
        ours, theirs = result["ours"], result["theirs"]
        print(f"{name:36} {result['speed']:6.2f} {result['lowest']:5.2f}-{result['highest']:<5.2f} {target:7.2f} "
              f"{ours['tokensPerSecond']:9.1f} {theirs['tokensPerSecond']:9.1f} {ours['peak'] / 1e6:8.0f} "
              f"{theirs['peak'] / 1e6:8.0f}", flush=True)
        rows.append({"name": name, "target": target, **result})
    return rows

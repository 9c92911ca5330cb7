"""How long training waits for its checkpoints, in a job of examples/ that writes one every 10 steps."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import PALIMPSEST, ROOT

JOB = ROOT / "examples/english-base.yaml"
INTERVAL, MOST = 10, 0.05


def suite():
    """Runs the job and prints the share of its time, measuring and export left out, in which no step could be taken."""
    with tempfile.TemporaryDirectory() as folder:
        command = [PALIMPSEST, "run", JOB, "--output", folder, "--set", f"spec.checkpoint.intervalSteps={INTERVAL}"]
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if ended.returncode:
            sys.exit(ended.stderr)
        goodput = json.loads(Path(folder, "summary.json").read_text())["goodput"]
        steps = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    stalled, stepped = goodput["checkpointSeconds"], goodput["keptSeconds"]
    row = {"name": f"{JOB.name}, every {INTERVAL} steps", "steps": len(steps), "stallSeconds": stalled, "stepSeconds": stepped,
           "share": stalled / (stalled + stepped), "most": MOST}
    longest = max(step["checkpointSeconds"] for step in steps)
    print(f"{row['name']}: {len(steps)} steps, {stepped:.1f} s; waited {stalled:.2f} s for checkpoints, at most {longest:.3f} s "
          f"before a step: {100 * row['share']:.2f} % (less than {100 * MOST:.0f} %)")
    return [row]

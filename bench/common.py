"""What the benchmarks share: the same model and batch for both sides, and two processes that take turns."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PALIMPSEST = Path(os.environ.get("PALIMPSEST", ROOT / "target/debug/palimpsest"))
# As the agent starts its ranks. Given to the peer too: with its own default, idle threads that spin, it is several times
# slower wherever anything else runs on the machine.
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


def write_model(folder, hidden, layers, vocabulary, seed=1, positions=4096):
    """A random model as transformers makes and writes it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers, num_attention_heads=max(hidden // 32, 1), max_position_embeddings=positions,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def write_batch(path, rows, positions, vocabulary, seed=2):
    import torch
    from safetensors.torch import save_file

    ids = torch.randint(vocabulary, (rows, positions + 1), generator=torch.Generator().manual_seed(seed))
    save_file({"input_ids": ids[:, :-1].clone(), "labels": ids[:, 1:].clone()}, path)


class Side:
    """A process that measures when told: it answers a number of repetitions with a JSON object."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen(
            [str(word) for word in command], env={**os.environ, **(environment or {})}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
        )
        self.turns = []
        self._line()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with code {self.process.wait()}; its own words are above")
        return line

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        return json.loads(self._line())

    def turn(self, repetitions):
        self.turns.append(self.ask(repetitions))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(kind, model, batch, threads, precision="float32"):
    command = [PALIMPSEST, "bench", kind, "--model", model, "--batch", batch, "--threads", threads]
    return Side("palimpsest", [*command, "--precision", precision, "--turns"], ENVIRONMENT)


def theirs(kind, model, batch, threads, precision="float32"):
    script = Path(__file__).with_name("peer.py")
    return Side("the peer", [sys.executable, script, kind, model, batch, threads, precision],
                {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)})


def in_turns(mk_ours, mk_theirs, rounds, repetitions):
    """Alternates the two; a round's ratio is that of its medians, the result the median of all rounds' ratios."""
    sides = [mk_ours(), mk_theirs()]
    for side in sides:
        side.turn(max(2, repetitions // 2))
    # Later than this, a batch of random ids seen again and again amplifies what two kernels round differently.
    losses = [side.turns.pop()["loss"] for side in sides]
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            side.turn(repetitions)
    for side in sides:
        side.close()
    return {**compare(*(side.turns for side in sides)), "lossDifference": abs(losses[0] - losses[1]) / abs(losses[1])}


def compare(our_turns, their_turns):
    medians = [[statistics.median(turn["seconds"]) for turn in turns] for turns in (our_turns, their_turns)]
    ratios = sorted(their / our for our, their in zip(*medians))
    work = [theirs["cpuSeconds"] / ours["cpuSeconds"] for ours, theirs in zip(our_turns, their_turns)]
    result = {
        "speed": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1],
        "cpuSpeed": statistics.median(work),
    }
    for name, turns, seconds in (("ours", our_turns, medians[0]), ("theirs", their_turns, medians[1])):
        last = turns[-1]
        result[name] = {
            "seconds": statistics.median(seconds), "peak": last["peak"],
            "workingMemory": last["peak"] - last["residentBefore"], "operators": last["operators"],
        }
    return result

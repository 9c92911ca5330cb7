"""Training: whole steps, the loss of a large vocabulary, and the time that the host takes, each against the peer."""

import sys
import tempfile
from pathlib import Path

from common import in_turns, ours, theirs, write_batch, write_model

# Of the losses after the first steps, relatively: a step that computes something else is no faster step.
LARGEST_DIFFERENCE = {"float32": 1e-5, "bfloat16": 1e-2}


def measured(kind, model, batch, threads, precision, rounds, repetitions):
    return in_turns(
        lambda: ours(kind, model, batch, threads, precision), lambda: theirs(kind, model, batch, threads, precision),
        rounds, repetitions,
    )


def case(kind, shape, batch, threads, precision="float32", rounds=7, repetitions=10):
    hidden, layers, vocabulary = shape
    rows, positions = batch
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder, "model"), Path(folder, "batch.safetensors")
        parameters = write_model(model, hidden, layers, vocabulary)
        write_batch(file, rows, positions, vocabulary)
        result = measured(kind, model, file, threads, precision, rounds, repetitions)
    if not result["lossDifference"] < LARGEST_DIFFERENCE[precision]:
        sys.exit(f"the losses differ by {result['lossDifference']:.1e} after the first steps: the sides compute different things")
    tokens = rows * positions
    for side in ("ours", "theirs"):
        result[side]["tokensPerSecond"] = tokens / result[side]["seconds"]
    return {"parameters": parameters, "tokens": tokens, "threads": threads, "precision": precision, **result}

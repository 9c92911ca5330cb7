"""Training: whole steps, the loss of a large vocabulary, and the time that the host takes, each against the peer."""

import tempfile
from pathlib import Path

from common import in_turns, ours, theirs, write_batch, write_model


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
    tokens = rows * positions
    for side in ("ours", "theirs"):
        result[side]["tokensPerSecond"] = tokens / result[side]["seconds"]
    return {"parameters": parameters, "tokens": tokens, "threads": threads, "precision": precision, **result}

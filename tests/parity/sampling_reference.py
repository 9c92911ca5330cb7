"""Random logits and settings, and what transformers' own processors leave of them, as JSON lines; for crates/infer's sampler.

    python sampling_reference.py COUNT
"""

import json
import random
import sys

import torch
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


def case(number):
    random.seed(number)
    torch.manual_seed(number)
    size = random.choice([3, 50, 1000, 5000])
    logits = torch.randn(size) * random.choice([0.5, 3.0, 20.0])
    if random.random() < 0.3:
        logits = logits.round(decimals=1)
    chosen = lambda value, default: value if random.random() < 0.5 else default
    settings = {
        "temperature": chosen(random.choice([0.3, 0.7, 1.5]), 1.0),
        "top_k": chosen(random.choice([1, 5, 50, 600]), 0),
        "top_p": chosen(random.choice([0.1, 0.5, 0.95]), 1.0),
        "min_p": chosen(random.choice([0.01, 0.2]), 0.0),
        "repetition_penalty": chosen(random.choice([0.8, 1.2, 2.0]), 1.0),
        "logit_bias": chosen({str(random.randrange(size)): random.choice([-100.0, -2.0, 3.5]) for _ in range(3)}, {}),
    }
    if settings["top_p"] < 1.0:
        # Which of several equals is dropped first is left to an unstable sort.
        logits += torch.arange(size) * 1e-4
    tokens = [random.randrange(size) for _ in range(random.randrange(1, 20))]
    # Of double, so that equal weights stay equal and sums are exact enough to say which token is the last.
    scores = logits.double()[None]
    processors = LogitsProcessorList()
    if settings["logit_bias"]:
        processors.append(SequenceBiasLogitsProcessor([[[int(token)], bias] for token, bias in settings["logit_bias"].items()]))
    if settings["repetition_penalty"] != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    if settings["temperature"] != 1.0:
        processors.append(TemperatureLogitsWarper(settings["temperature"]))
    if settings["top_k"]:
        processors.append(TopKLogitsWarper(settings["top_k"]))
    if settings["top_p"] < 1.0:
        processors.append(TopPLogitsWarper(settings["top_p"]))
    if settings["min_p"]:
        processors.append(MinPLogitsWarper(settings["min_p"]))
    probabilities = processors(torch.tensor([tokens]), scores)[0].softmax(-1)
    left = probabilities.nonzero().flatten().tolist()
    return {"logits": logits.tolist(), "tokens": tokens, "settings": settings,
            "left": [[token, probabilities[token].item()] for token in left]}


def main():
    for number in range(int(sys.argv[1])):
        print(json.dumps(case(number)))


main()

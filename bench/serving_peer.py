"""transformers' side of `serving`. serving_peer.py static|continuous MODEL THREADS

Reads loads, a line of JSON each: [[arrival, ids, new tokens], ...]. Answers when the first token and the last of each request were
there, in seconds from its arrival, and when all were. `static`: batches of at most 16 in order of arrival, padded on the left, each
until its longest request is done. `continuous`: transformers' own continuous batching; it tells of whole requests only.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

BATCH = 16
kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


class Clock:
    """Is called after each token, and notes when the first came."""

    def __init__(self):
        self.first = None

    def __call__(self, input_ids, scores, **_):
        self.first = self.first or time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def static(load):
    began = time.perf_counter()
    answers, waiting = [], list(load)
    while waiting:
        now = time.perf_counter() - began
        if waiting[0][0] > now:
            time.sleep(waiting[0][0] - now)
            continue
        batch = [request for request in waiting[:BATCH] if request[0] <= now]
        waiting = waiting[len(batch):]
        width, new = max(len(ids) for _, ids, _ in batch), max(new for *_, new in batch)
        ids = torch.tensor([[0] * (width - len(ids)) + ids for _, ids, _ in batch])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for _, ids, _ in batch])
        clock = Clock()
        with torch.inference_mode():
            model.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
                           stopping_criteria=[clock])
        ended = time.perf_counter() - began
        answers += [(clock.first - began - arrival, ended - arrival) for arrival, *_ in batch]
    return answers, time.perf_counter() - began


def continuous(load):
    """All requests are there at once; those of a load ask for as many tokens each."""
    new = load[0][2]
    config = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0)
    began = time.perf_counter()
    outputs = model.generate_batch(inputs=[ids for _, ids, _ in load], generation_config=config, progress_bar=False)
    seconds = time.perf_counter() - began
    lengths = [len(output.generated_tokens) for output in outputs.values()]
    assert lengths == [new] * len(load), lengths
    return [(seconds, seconds)] * len(load), seconds


print("ready", flush=True)
for line in sys.stdin:
    answers, seconds = {"static": static, "continuous": continuous}[kind](json.loads(line))
    print(json.dumps({"answers": answers, "seconds": seconds}), flush=True)

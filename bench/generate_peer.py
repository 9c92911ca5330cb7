"""The peer's side of `generate`: transformers on a static batch. generate_peer.py MODEL REQUESTS PROMPT NEW THREADS PRECISION

Reads a line, answers with the seconds of one batch, as JSON; until its input ends.
"""

import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

folder = sys.argv[1]
requests, prompt, new, threads = map(int, sys.argv[2:6])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, sys.argv[6])).eval()
vocabulary = model.config.vocab_size
print("ready", flush=True)
for turn, _ in enumerate(sys.stdin):
    # The ids of `palimpsest bench infer`.
    ids = torch.tensor([
        [((turn * requests + request + 1) * 7919 + index * index * 31 + index * 17) % vocabulary for index in range(prompt)]
        for request in range(requests)
    ])
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
                       pad_token_id=0)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)

"""The peer: transformers and PyTorch, taking its turns as `palimpsest bench --turns` does.

    python peer.py train|loss MODEL BATCH THREADS float32|bfloat16
"""

import json
import sys
import time

import torch
from safetensors.torch import load_file
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM
from transformers.loss.loss_utils import ForCausalLMLoss


def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024


def train(model, batch, precision):
    """Fused AdamW without decay of the norms, sdpa attention, clipping; autocast for bfloat16."""
    model.train()
    norms = [parameter for name, parameter in model.named_parameters() if name.endswith("norm.weight")]
    others = [parameter for name, parameter in model.named_parameters() if not name.endswith("norm.weight")]
    groups = [{"params": others, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(input_ids=batch["input_ids"], labels=batch["labels"], shift_labels=batch["labels"],
                         use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def loss_alone(model, batch, precision):
    """The final norm, the head with its full logits and transformers' loss, on the embeddings of the batch."""
    hidden = model.model.embed_tokens(batch["input_ids"]).detach().requires_grad_()

    def step():
        hidden.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model.lm_head(model.model.norm(hidden))
        loss = ForCausalLMLoss(logits, batch["labels"], logits.shape[-1], shift_labels=batch["labels"])
        loss.backward()
        return loss.item()

    return step


def count_operators(step):
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    return sum(event.name.startswith("aten::") for event in profiler.events())


def main():
    kind, model, batch, threads, precision = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    step = {"train": train, "loss": loss_alone}[kind](model, load_file(batch), precision)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS:")
    # As many steps as ours takes before its turns, so that losses can be compared. The profiler takes memory itself: only
    # small models, whose operators matter, are counted.
    step()
    operators = 0
    if model.config.hidden_size <= 64:
        operators = count_operators(step)
    else:
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, cpu = [], time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - start)
        turn = {
            "seconds": seconds, "cpuSeconds": time.process_time() - cpu, "loss": loss, "residentBefore": before,
            "peak": status("VmHWM:"), "operators": operators,
        }
        print(json.dumps(turn), flush=True)


if __name__ == "__main__":
    main()

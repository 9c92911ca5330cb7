"""Trains a prepared job again with transformers and torch.optim: whole_job.py RUN MODEL DTYPE FIRST_NEW OUT.

RUN is a run folder of `palimpsest run` (its job.json, plan.json and packed Arrow files are read); MODEL is the Hugging
Face folder of the weights before the first step, the vocabulary extended already, and FIRST_NEW the first id that was
appended (0: none). DTYPE is float64, float32, bfloat16 (float32 masters, passes in bfloat16, gradients summed in float32:
what FSDP's mixed precision does), or autocast (float32 masters under torch.autocast). Writes a JSON line a step to OUT:
{"step", "loss", "gradNorm", "learningRate"}. `--steps N` ends after N steps; `--mutate NAME` does one thing wrong on
purpose. Nothing of Palimpsest's own code runs here.
"""

import argparse
import json
import math
from pathlib import Path

import pyarrow.ipc
import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("run", type=Path)
parser.add_argument("model")
parser.add_argument("dtype", choices=["float64", "float32", "bfloat16", "autocast"])
parser.add_argument("first_new", type=int)
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=math.inf)
parser.add_argument("--mutate", choices=["positions", "mask", "normalizer", "decay"])
arguments = parser.parse_args()
run, first_new, mutated = arguments.run, arguments.first_new, arguments.mutate
autocast = arguments.dtype == "autocast"
dtype = torch.float32 if autocast else getattr(torch, arguments.dtype)
master_dtype = torch.float64 if dtype == torch.float64 else torch.float32
job = json.loads((run / "job.json").read_text())["spec"]
plan = json.loads((run / "plan.json").read_text())
is_masked = job["data"].get("attention", "Document") == "Document"
torch.manual_seed(0)


def in_full_precision(model):
    """transformers computes norms in float32 whatever the weights: here they follow the weights."""
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            def norm(x, module=module):
                return module.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon))
            module.forward = norm
    return model


def sequences(stage):
    """The stage's packed sequences in training order."""
    for bucket in plan["stages"][stage]["buckets"]:
        with pyarrow.memory_map(str(run / "prepared" / bucket["file"])) as source:
            for row in pyarrow.ipc.open_file(source).read_all().select(["input_ids", "labels", "segments"]).to_pylist():
                yield row


def collate(rows):
    """Ids, labels, positions (restarting with each document where documents are masked), and the mask."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    document = torch.full((len(rows), width), -1)
    for i, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[i, :n] = torch.tensor(row["input_ids"])
        labels[i, :n] = torch.tensor(row["labels"])
        start = 0
        for k, length in enumerate(row["segments"]):
            restarts = is_masked != (mutated == "positions")
            positions[i, start:start + length] = torch.arange(length) + (0 if restarts else start)
            document[i, start:start + length] = k
            start += length
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    if is_masked != (mutated == "mask"):
        causal = causal & (document[:, :, None] == document[:, None, :])
    mask = torch.zeros(len(rows), 1, width, width, dtype=dtype)
    mask.masked_fill_(~causal.view(-1, 1, width, width), torch.finfo(dtype).min)
    return ids, labels, positions, mask


def rate(schedule, peak, t, steps):
    """lr x (t + 1) / warmup, then the shape over the rest."""
    warmup, minimum = schedule["warmupSteps"], peak * float(schedule["minimumRatio"])
    if t < warmup:
        return peak * (t + 1) / warmup
    x = (t - warmup) / max(steps - warmup, 1)
    share = {"Constant": 1.0, "Linear": 1.0 - x, "Cosine": 0.5 * (1 + math.cos(math.pi * x))}[schedule["kind"]]
    return peak if schedule["kind"] == "Constant" else minimum + (peak - minimum) * share


model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype, attn_implementation="sdpa")
if dtype == torch.float64:
    model = in_full_precision(model)
model.config.use_cache = False
embeddings = ("model.embed_tokens.weight", "lm_head.weight")

# A slot is a range of rows of a parameter with moments of its own, kept as a parameter of torch.optim's.
slots = []
for name, parameter in model.named_parameters():
    rows = parameter.shape[0]
    for low, high in [(0, first_new), (first_new, rows)] if name in embeddings and first_new else [(0, rows)]:
        slots.append((name, parameter, low, high, torch.nn.Parameter(parameter.detach()[low:high].to(master_dtype, copy=True))))

step = 0
optimizer = None
with open(arguments.out, "w") as sink:
    for index, stage in enumerate(job["stages"]):
        spec, steps = stage["optimizer"], plan["stages"][index]["steps"]
        new_only, embeddings_only = stage["trainable"] == "NewEmbeddings", stage["trainable"] == "Embeddings"
        trained = [
            slot for slot in slots
            if stage["trainable"] == "All" or slot[0] in embeddings and (embeddings_only or slot[2] == first_new)
        ]
        exempt = lambda name: ("Norms" in spec["noDecay"] and name.endswith("norm.weight")
                               or "Embeddings" in spec["noDecay"] and name in embeddings)
        decay = 0.0 if mutated == "decay" else float(spec["weightDecay"])
        groups = [
            {"params": [s[4] for s in trained if not exempt(s[0])], "weight_decay": decay},
            {"params": [s[4] for s in trained if exempt(s[0])], "weight_decay": 0.0},
        ]
        old_state = optimizer.state if optimizer and stage["carryOver"] == "WeightsAndOptimizer" else {}
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0,
                                      betas=tuple(map(float, spec["betas"])), eps=float(spec["epsilon"]))
        optimizer.state.update(old_state)
        data, size, micro = list(sequences(index)), stage["batch"]["sequences"], stage["batch"]["microBatch"]
        for t in range(min(steps, arguments.steps - step)):
            batch = data[t * size:(t + 1) * size]
            targets = sum(label != -100 for row in batch for label in row["labels"])
            gradients = [torch.zeros_like(slot[4]) for slot in trained]
            total = 0.0
            for start in range(0, len(batch), micro):
                ids, labels, positions, mask = collate(batch[start:start + micro])
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
                logits = logits if dtype == torch.float64 else logits.float()
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
                if mutated == "normalizer":  # the mean of the micro-batches' means
                    loss = loss * targets / ((labels != -100).sum() * math.ceil(len(batch) / micro))
                model.zero_grad()
                (loss / targets).backward()
                total += loss.item()
                for gradient, (_, parameter, low, high, _) in zip(gradients, trained):
                    gradient += parameter.grad[low:high]
            for gradient, slot in zip(gradients, trained):
                slot[4].grad = gradient
            norm = torch.nn.utils.clip_grad_norm_([slot[4] for slot in trained], float(spec["clipNorm"]) or math.inf)
            learning_rate = rate(stage["schedule"], float(spec["learningRate"]), t, steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            with torch.no_grad():
                for _, parameter, low, high, slot in trained:
                    parameter[low:high].copy_(slot)
            step += 1
            sink.write(json.dumps({"step": step, "loss": total / targets, "gradNorm": norm.item(), "learningRate": learning_rate}) + "\n")

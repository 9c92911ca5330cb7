"""Reads an exported folder as any user of transformers would: exported.py MODEL FILE.jsonl PROMPT.

Prints a JSON object: bits per byte of the file's records, and the greedy continuation of the prompt by 24 ids.
"""

import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, path, prompt = sys.argv[1:4]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
window = model.config.max_position_embeddings

nats = size = 0
with torch.no_grad():
    for line in open(path, encoding="utf-8"):
        text = json.loads(line)["target"]
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id, "the tokenizer begins a text with BOS"
        size += len(text.encode())
        for start in range(0, len(ids), window):
            inputs = torch.tensor(ids[start:start + window])
            labels = torch.tensor(ids[start + 1:start + window + 1])
            logits = model(inputs[None]).logits[0, :len(labels)].float()
            nats += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item() if len(labels) else 0.0

inputs = tokenizer(prompt, return_tensors="pt")
output = model.generate(inputs["input_ids"], max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
print(json.dumps({
    "bitsPerByte": nats / math.log(2) / size,
    "text": tokenizer.decode(output[0], skip_special_tokens=True),
}))

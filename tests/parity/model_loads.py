"""Loads folders in transformers and checks the logits: model_loads.py FOLDER...

Each folder holds a model and `expected.safetensors` with input_ids and logits.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

for folder in map(Path, sys.argv[1:]):
    expected = load_file(folder / "expected.safetensors")
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    problems = {key: value for key, value in loading.items() if value}
    assert not problems, f"{folder.name}: {problems}"
    assert model.dtype == torch.float32, f"{folder.name}: dtype {model.dtype}"
    with torch.no_grad():
        difference = (model(expected["input_ids"]).logits - expected["logits"]).abs().max().item()
    assert difference < 1e-5, f"{folder.name}: logits differ by {difference}"
    eos = model.generation_config.eos_token_id
    assert eos == model.config.eos_token_id, f"{folder.name}: eos {eos}, not {model.config.eos_token_id}"

"""Makes random LLaMA models and what transformers computes with them, for crates/model/tests.

    python model_reference.py OUT [NAME=FOLDER...]

For each case OUT/NAME holds `model/` (a Hugging Face folder; absent for the real models of NAME=FOLDER) and
`reference.safetensors`: a batch, its logits, loss and gradients, plain and packed, a greedy continuation, and the errors of
bfloat16. OUT/optimizer.safetensors holds what torch.optim does.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm

ROWS, WIDTH, NEW_TOKENS = 3, 24, 64
SEGMENTS = [[10, 14], [24], [5, 5, 7, 7]]
# For the real models: on random ids SmolLM2's float32 errors (against float64) reach 8e-4, on text 4e-5.
TEXTS = [
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her friends. One day,"
    " she saw a big red ball near the old tree.",
    "The history of science is the study of the development of science and scientific knowledge, including both the natural"
    " and social sciences, from the ancient world to the present.",
    "To make the soup, heat the oil in a large pot, add the onions and cook until they are soft, then pour in the water and"
    " let it simmer for twenty minutes.",
]
SMALL = dict(
    vocab_size=300, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, initializer_range=0.15,
)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
# Rows are longer than the original context of 16, prompts shorter: continuations cross it.
LONG = dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=16,
            short_factor=[1 + i / 16 for i in range(8)], long_factor=[2 + i for i in range(8)])
CASES = {
    "mha": dict(),
    "gqa-tied": dict(num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=5),
    "head-dim": dict(hidden_size=48, head_dim=20, num_key_value_heads=2),
    "llama3-rope": dict(rope_parameters=LLAMA3, num_key_value_heads=2),
    "linear-rope": dict(rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=10000.0)),
    "dynamic-rope": dict(rope_parameters=dict(rope_type="dynamic", factor=8.0, rope_theta=10000.0), max_position_embeddings=16),
    "yarn-rope": dict(rope_parameters=dict(rope_type="yarn", factor=16.0, rope_theta=10000.0, beta_fast=4,
                                           original_max_position_embeddings=16)),
    "long-rope": dict(rope_parameters=LONG),
    "biases": dict(attention_bias=True, mlp_bias=True, num_key_value_heads=2, pad_token_id=-1),
    "mistral": dict(num_key_value_heads=2, sliding_window=None),
    "bfloat16": dict(tie_word_embeddings=True),
    "float16-sharded": dict(num_key_value_heads=1),
}


def random_model(name, changes):
    if name == "mistral":
        model = MistralForCausalLM(MistralConfig(**{**SMALL, **changes}))
    else:
        model = LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes}))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or "bias" in parameter_name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def packed_inputs():
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in SEGMENTS])
    pieces = torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in SEGMENTS])
    same = pieces[:, :, None] == pieces[:, None, :]
    return positions, (same & torch.ones(WIDTH, WIDTH).tril().bool())[:, None]


def loss_and_gradients(model, ids, labels, positions=None, mask=None):
    """Logits, the loss summed over targets, and every gradient of it."""
    model.zero_grad()
    if mask is not None:
        smallest = torch.finfo(model.dtype).min
        mask = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, smallest)
    logits = model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).logits
    wide = logits if logits.dtype == torch.float64 else logits.float()
    loss = cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    loss.backward()
    gradients = {name: p.grad.detach().clone() for name, p in model.named_parameters()}
    return logits.detach(), loss.detach(), gradients


def relative_error(gradients, exact):
    difference = sum((gradients[name].double() - exact[name].double()).square().sum() for name in exact)
    return (difference / sum(g.double().square().sum() for g in exact.values())).sqrt()


def greedy(model, prompt):
    """64 ids, each the likeliest, and by how much its logit exceeds the next best."""
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW_TOKENS,
                         min_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0)
    best = model(ids[:, :-1]).logits[0, prompt.shape[1] - 1:].float().topk(2).values
    return ids[0, prompt.shape[1]:], best[:, 0] - best[:, 1]


def text_ids(folder):
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids[: WIDTH + 1] for text in TEXTS])


def reference(model, ids, is_small):
    """What the model makes of ids [rows, positions + 1]."""
    ids, labels = ids[:, :-1].contiguous(), ids[:, 1:]
    labels = labels.masked_fill(torch.rand(labels.shape) < 0.2, -100)
    positions, mask = packed_inputs()
    out = {"input_ids": ids, "labels": labels, "positions": positions}
    out["logits"], out["loss"], gradients = loss_and_gradients(model, ids, labels)
    packed_model = model
    if not is_small:
        # In float32 transformers itself errs on SmolLM2, whose residual stream reaches 2e4: its gradients by up to 6e-4, the
        # logits of documents that begin in mid-sentence by 1e-4. Float64 is what ours are compared with.
        packed_model = copy.deepcopy(model).double()
        gradients = {name: g.float() for name, g in loss_and_gradients(packed_model, ids, labels)[2].items()}
    out["packed.logits"], out["packed.loss"], packed = loss_and_gradients(packed_model, ids, labels, positions, mask)
    out.update({f"gradient.{name}": g for name, g in gradients.items()})
    with torch.no_grad():
        out["prompt"] = ids[:1, :8].clone()
        out["greedy"], out["greedy.margins"] = greedy(model, out["prompt"])
        # Dynamic frequencies stay those of the longest pass so far until a short one comes.
        model(out["prompt"])
    out.update({f"packed.gradient.{name}": g.float() for name, g in packed.items()})
    if is_small:
        coarse = copy.deepcopy(model).bfloat16()
        # The cast took the rotary frequencies along, which a model loaded in bfloat16 keeps in float32.
        coarse.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq
        logits, loss, coarse_gradients = loss_and_gradients(coarse, ids, labels)
        out["bfloat16.logits_error"] = (logits.float() - out["logits"]).norm() / out["logits"].norm()
        out["bfloat16.gradient_error"] = relative_error(coarse_gradients, gradients)
        out["bfloat16.loss"] = loss
        fine = copy.deepcopy(model).double()
        logits, out["double.loss"], fine_gradients = loss_and_gradients(fine, ids, labels)
        out["double.logits"] = logits
        out.update({f"double.gradient.{name}": g for name, g in fine_gradients.items()})
    return {name: tensor.contiguous() for name, tensor in out.items()}


def in_own_precision(self, x):
    """RMSNorm in float64 where x is: transformers' own goes through float32 always."""
    wide = x if x.dtype == torch.float64 else x.float()
    return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)).to(x.dtype)


def optimizer_reference():
    """Ten steps of AdamW with clipping on given gradients."""
    shapes = {"matrix": (17, 9), "row": (33,), "wide": (3, 257)}
    settings = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    out = {}
    for dtype, tag in [(torch.float32, "float"), (torch.float64, "double")]:
        parameters = {name: torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for name, shape in shapes.items()}
        out.update({f"{tag}.start.{name}": p.detach().clone() for name, p in parameters.items()})
        optimizer = torch.optim.AdamW(parameters.values(), **settings)
        for step in range(10):
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * (step + 1) / 10
            for name, parameter in parameters.items():
                parameter.grad = torch.randn_like(parameter) * (0.02 if step % 3 == 0 else 1.0)
                out[f"{tag}.gradient.{step}.{name}"] = parameter.grad.clone()
            out[f"{tag}.norm.{step}"] = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            out.update({f"{tag}.step.{step}.{name}": p.detach().clone() for name, p in parameters.items()})
    return out


def main():
    torch.set_num_threads(2)
    out = Path(sys.argv[1])
    LlamaRMSNorm.forward = MistralRMSNorm.forward = in_own_precision
    for number, (name, changes) in enumerate(CASES.items()):
        torch.manual_seed(number)
        model = random_model(name, changes)
        folder = out / name / "model"
        dtype = {"bfloat16": torch.bfloat16, "float16-sharded": torch.float16}.get(name, torch.float32)
        model.to(dtype).save_pretrained(folder, max_shard_size="200KB" if "sharded" in name else "5GB")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if name == "mha":
            # As transformers 4 writes it.
            path = folder / "config.json"
            config = json.loads(path.read_text())
            config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
            config["torch_dtype"] = config.pop("dtype")
            path.write_text(json.dumps(config))
        ids = torch.randint(model.config.vocab_size, (ROWS, WIDTH + 1))
        save_file(reference(model, ids, True), out / name / "reference.safetensors")
    for argument in sys.argv[2:]:
        name, folder = argument.split("=", 1)
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        (out / name).mkdir(parents=True, exist_ok=True)
        save_file(reference(model, text_ids(folder), False), out / name / "reference.safetensors")
    torch.manual_seed(99)
    save_file(optimizer_reference(), out / "optimizer.safetensors")
    (out / "complete").touch()


if __name__ == "__main__":
    main()

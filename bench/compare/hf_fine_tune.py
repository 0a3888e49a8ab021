#!/usr/bin/env python3
"""Hugging Face's side of fine_tune.py: fine-tunes a BERT on SST-2 with Trainer, as the seed of sinter does.

    python3 hf_fine_tune.py --model DIR --data_dir SST-2 --samples 2000 --threads 2 [--max_steps N] [--seed N] [--eval]

The last line of standard output is one JSON object: train_samples_per_second and train_runtime as Trainer counts them,
seconds from the start of the process to the end of the first step, with --eval the accuracy on the dev sentences after
training, and the versions. Dynamic padding, the fused AdamW, no saving: what Trainer does fastest on a CPU.
"""
import argparse
import csv
import json
import os
import pathlib
import time


def process_start():
    """Wall-clock time at which this process was started (the interpreter and its imports count)."""
    fields = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    boot = next(line for line in pathlib.Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def read_rows(path, limit):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows[:limit] if limit else rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=0, help="the first N training rows; 0: all")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max_steps", type=int, default=-1)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--eval", action="store_true")
    parser.add_argument("--output_dir", required=True)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"

    import torch
    torch.set_num_threads(options.threads)
    import tokenizers
    import transformers
    from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                              TrainerCallback, TrainingArguments)
    transformers.logging.set_verbosity_error()

    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def encode(split, limit):
        rows = read_rows(pathlib.Path(options.data_dir) / f"{split}.tsv", limit)
        encoded = tokenizer([row["sentence"] for row in rows], truncation=True, max_length=128)
        return [{"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "label": int(row["label"])}
                for ids, types, mask, row in zip(encoded["input_ids"], encoded["token_type_ids"],
                                                 encoded["attention_mask"], rows)]

    transformers.set_seed(options.seed)   # of the new classifier; Trainer sets it again for what follows
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2, dtype=torch.float32)

    class FirstStep(TrainerCallback):
        seconds = None

        def on_step_end(self, args, state, control, **kwargs):
            if self.seconds is None:
                FirstStep.seconds = time.time() - process_start()

    trainer = Trainer(
        model=model, train_dataset=encode("train", options.samples), data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[FirstStep()],
        args=TrainingArguments(
            output_dir=options.output_dir, per_device_train_batch_size=options.batch_size, num_train_epochs=1,
            max_steps=options.max_steps, seed=options.seed, learning_rate=2e-5, weight_decay=0.01, save_strategy="no",
            eval_strategy="no", logging_steps=500, report_to="none", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False))
    metrics = trainer.train().metrics
    accuracy = None
    if options.eval:
        output = trainer.predict(encode("dev", 0))
        accuracy = float((output.predictions.argmax(-1) == output.label_ids).mean())
    print(json.dumps({
        "samples_per_second": metrics["train_samples_per_second"], "seconds": metrics["train_runtime"],
        "loss": metrics["train_loss"], "accuracy": accuracy, "first_step": FirstStep.seconds,
        "optim": str(trainer.args.optim),
        "attention": model.config._attn_implementation, "torch": torch.__version__,
        "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
        "blas": "mkl" if torch.backends.mkl.is_available() else "other", "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Hugging Face's side of the comparisons: fine-tunes a BERT on SST-2 with Trainer, as the seed of sinter does.

    python3 hf_fine_tune.py --model DIR --data_dir SST-2 --output_dir OUT [--samples 2000] [--threads 2] [--max_steps N]
        [--seed N] [--eval] [--device cuda] [--fp16 | --bf16] [--compile MODE] [--pad_to_multiple_of N]
        [--timed_steps N --warm_up N --span N]

The last line of standard output is one JSON object: train_samples_per_second and train_runtime as Trainer counts them,
seconds from the start of the process to the end of the first step, with --eval the accuracy on the dev sentences after
training, and the versions. With --timed_steps it trains warm_up + timed_steps steps and the object has ms_per_step, the
milliseconds of a step in each span of the timed ones (the device has then finished: one synchronisation a span).
Dynamic padding, the fused AdamW, no saving (with --save the model, at the end): what Trainer does fastest.

--compile default, reduce-overhead and max-autotune-no-cudagraphs are torch.compile's modes, as TrainingArguments'
torch_compile_mode takes them; dynamic and static are the default mode with shapes that are symbols from the start, or
never. Each length may be compiled (torch's limit of 8 recompilations is raised), as the user of Trainer would do.
"""
import argparse
import csv
import json
import os
import pathlib
import time

COMPILE_MODES = ("default", "dynamic", "static", "reduce-overhead", "max-autotune-no-cudagraphs")


def process_start():
    """Wall-clock time at which this process was started (the interpreter and its imports count)."""
    fields = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    boot = next(line for line in pathlib.Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def read_rows(path, limit):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows[:limit] if limit else rows


def encoded_rows(tokenizer, data_dir, split, limit, max_length):
    """Samples as Trainer's datasets have them: lists of ids, no padding."""
    rows = read_rows(pathlib.Path(data_dir) / f"{split}.tsv", limit)
    encoded = tokenizer([row["sentence"] for row in rows], truncation=True, max_length=max_length)
    return [{"input_ids": ids, "token_type_ids": types, "attention_mask": mask, "label": int(row["label"])}
            for ids, types, mask, row in zip(encoded["input_ids"], encoded["token_type_ids"],
                                             encoded["attention_mask"], rows)]


class SpanClock:
    """Milliseconds of a step, span by span: mark(step) is called behind each one."""

    def __init__(self, warm_up, span, synchronize):
        self.warm_up, self.span, self.synchronize, self.marks = warm_up, span, synchronize, []

    def mark(self, step):
        if step >= self.warm_up and (step - self.warm_up) % self.span == 0:
            self.synchronize()
            self.marks.append(time.perf_counter())

    def ms_per_step(self):
        return [1000 * (end - start) / self.span for start, end in zip(self.marks, self.marks[1:])]


def compile_arguments(mode):
    """TrainingArguments of a --compile mode. What they cannot say, accelerate reads from the environment."""
    if mode is None:
        return {}
    import torch
    torch._dynamo.config.recompile_limit = 64
    if mode in ("dynamic", "static", "reduce-overhead"):
        os.environ["ACCELERATE_DYNAMO_USE_DYNAMIC"] = "true" if mode == "dynamic" else "false"
    return {"torch_compile": True, "torch_compile_mode": "default" if mode in ("dynamic", "static") else mode}


def peak_mib(device):
    import torch
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None


def versions(device):
    import tokenizers
    import torch
    import transformers
    found = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
             "blas": "mkl" if torch.backends.mkl.is_available() else "other"}
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
    return found


def parsed_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--samples", type=int, default=0, help="the first N training rows; 0: all")
    parser.add_argument("--threads", type=int, help="torch's own number where not given")
    parser.add_argument("--max_steps", type=int, default=-1)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--num_train_epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--eval", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", choices=COMPILE_MODES)
    parser.add_argument("--pad_to_multiple_of", type=int)
    parser.add_argument("--timed_steps", type=int, default=0)
    parser.add_argument("--warm_up", type=int, default=0)
    parser.add_argument("--span", type=int, default=50)
    return parser.parse_args()


def training_arguments(options):
    from transformers import TrainingArguments
    cpu = options.device == "cpu"
    steps = options.warm_up + options.timed_steps if options.timed_steps else options.max_steps
    return TrainingArguments(
        output_dir=options.output_dir, per_device_train_batch_size=options.batch_size, max_steps=steps,
        num_train_epochs=options.num_train_epochs, seed=options.seed, learning_rate=2e-5, weight_decay=0.01,
        save_strategy="no", eval_strategy="no", logging_steps=500, report_to="none", use_cpu=cpu, disable_tqdm=True,
        dataloader_pin_memory=not cpu, fp16=options.fp16, bf16=options.bf16, **compile_arguments(options.compile))


def main():
    options = parsed_options()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch
    if options.threads:
        torch.set_num_threads(options.threads)
    import transformers
    from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                              TrainerCallback)
    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def encode(split, limit):
        return encoded_rows(tokenizer, options.data_dir, split, limit, options.max_length)

    transformers.set_seed(options.seed)   # of the new classifier; Trainer sets it again for what follows
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2, dtype=torch.float32)
    clock = SpanClock(options.warm_up, options.span,
                      torch.cuda.synchronize if options.device == "cuda" else lambda: None)

    class Times(TrainerCallback):
        first_step = None

        def on_step_end(self, args, state, control, **kwargs):
            if self.first_step is None:
                Times.first_step = time.time() - process_start()
            if options.timed_steps:
                clock.mark(state.global_step)

    trainer = Trainer(model=model, train_dataset=encode("train", options.samples), callbacks=[Times()],
                      data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=options.pad_to_multiple_of),
                      args=training_arguments(options))
    metrics = trainer.train().metrics
    if options.save:
        trainer.save_model()
    accuracy = None
    if options.eval:
        output = trainer.predict(encode("dev", 0))
        accuracy = float((output.predictions.argmax(-1) == output.label_ids).mean())
    print(json.dumps({
        "samples_per_second": metrics["train_samples_per_second"], "seconds": metrics["train_runtime"],
        "loss": metrics["train_loss"], "accuracy": accuracy, "first_step": Times.first_step,
        "ms_per_step": clock.ms_per_step(), "peak_mib": peak_mib(options.device), "optim": str(trainer.args.optim),
        "attention": model.config._attn_implementation, "threads": torch.get_num_threads(),
        **versions(options.device)}))


if __name__ == "__main__":
    main()

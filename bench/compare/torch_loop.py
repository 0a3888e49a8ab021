#!/usr/bin/env python3
"""The rival that we wrote: a hand-tuned PyTorch loop for fine-tuning BERT, with everything a good engineer would do.

    python3 torch_loop.py --model DIR --data_dir SST-2 --batch_size 16 --timed_steps 500 [--warm_up 300] [--span 50]
        [--device cuda] [--packed] [--compile] [--pad 8] [--max_steps N | --num_train_epochs N] [--save FILE]

On a GPU in fp16 (--dtype fp32 for tests); on a CPU in fp32 or fp16, without graphs, to be tested and not to be timed.
What is done:

- Weights are fp16, and written once a step from the fp32 masters: no autocast, no cast for every Linear.
- Batches come in random order, as the Trainer's do, padded to a multiple of 8; each length has its CUDA graph, recorded
  before the clock starts, of the whole step: forward, backward, loss scaling, clipping, AdamW, the schedule, weights.
  All graphs share one pool of memory. --packed runs all layers but attention on the real tokens (rounded up to
  --token_multiple).
- Gradients are fp16; one fp32 norm over all of them, one copy into a flat fp32 buffer, and one fused AdamW for each of
  two groups, which divides by scale / clipping factor and skips a step that overflowed (grad_scale, found_inf).
- The loss scale, its growth, lr and the step number stand on the device; the host never waits, but once a span.
- All batches are made before the clock starts, in pinned memory; a step is one copy and one replay.
- --compile has torch.compile fuse what lies between the matrix products; the graphs then record that.

The last line of standard output is one JSON object, as hf_fine_tune.py's.
"""
import argparse
import itertools
import json
import time

import numpy as np
import torch
from transformers import AutoTokenizer

from hf_fine_tune import SpanClock, encoded_rows, peak_mib, process_start, versions
from torch_bert import Batch, Bert, Layout, Weights, bucket

MAX_NORM = 1.0
GROWTH_INTERVAL = 2000
INITIAL_SCALE = 65536.0


class Plan:
    """All batches of the run: `keys[i]`, and the contents `hosts[i]` of step i's buffer."""

    def __init__(self, samples, options):
        lengths = np.array([len(sample["input_ids"]) for sample in samples])
        labels = np.array([sample["label"] for sample in samples])
        ids = [np.array(sample["input_ids"]) for sample in samples]
        chosen = self.batches(len(samples), options)
        self.keys = [bucket(lengths[rows], options.batch_size, options.pad,
                            options.packed and options.token_multiple) for rows in chosen]
        layouts = {key: Layout(key) for key in set(self.keys)}
        ends = np.cumsum([layouts[key].size for key in self.keys])
        pool = torch.zeros(int(ends[-1]), dtype=torch.int64, pin_memory=options.device == "cuda")
        self.hosts = [pool[int(end) - layouts[key].size:int(end)] for key, end in zip(self.keys, ends)]
        for key, host, rows in zip(self.keys, self.hosts, chosen):
            layouts[key].write(host.numpy(), np.concatenate([ids[row] for row in rows]), lengths[rows], labels[rows])

    @staticmethod
    def batches(count, options):
        """The rows of each step: shuffled anew in every epoch; the last batch of an epoch may be smaller."""
        generator, chosen = np.random.default_rng(options.seed), []
        while len(chosen) < options.steps:
            order = generator.permutation(count)
            chosen += [order[start:start + options.batch_size] for start in range(0, count, options.batch_size)]
        return chosen[:options.steps]


class Loop:
    """The training state on the device, and one step of it."""

    def __init__(self, options):
        self.device, self.graphs, self.batches = options.device, {}, {}
        self.half = options.dtype == "fp16"
        self.dtype = torch.float16 if self.half else torch.float32
        self.weights = Weights(options.model)
        size, decayed = self.weights.size, self.weights.decayed
        self.masters = torch.zeros(size, device=self.device)
        self.weights.fill(self.masters)
        self.flat = self.masters.half() if self.half else self.masters
        self.bert = Bert(self.weights, self.flat, options.dropout, options.compile)
        self.grads = torch.zeros(size, device=self.device)
        self.grad_views = [self.weights.views(self.grads)[name] for name in self.bert.p]
        groups = [torch.nn.Parameter(self.masters[:decayed]), torch.nn.Parameter(self.masters[decayed:])]
        for group, grad in zip(groups, (self.grads[:decayed], self.grads[decayed:])):
            group.grad = grad
        self.total, self.base_lr = options.total_steps, options.learning_rate
        cell = {"device": self.device, "dtype": torch.float32}
        self.lr = torch.tensor(self.base_lr, **cell)
        self.scale = torch.tensor(options.scale if self.half else 1.0, **cell)
        self.growth = torch.zeros((), device=self.device, dtype=torch.int32)
        self.done, self.loss_sum = torch.zeros((), **cell), torch.zeros((), **cell)
        self.optimizer = torch.optim.AdamW(
            [{"params": groups[:1], "weight_decay": 0.01}, {"params": groups[1:], "weight_decay": 0.0}],
            lr=self.lr, fused=True, capturable=options.device == "cuda")
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.pool = None

    def compute(self, batch):
        """One update from the batch's static tensors: no value goes to the host."""
        loss = self.bert.loss(batch)
        grads = torch.autograd.grad(loss * self.scale, self.bert.parameters)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32))) / self.scale
        overflowed = (~torch.isfinite(norm)).float()
        torch._foreach_copy_(self.grad_views, grads)
        self.lr.copy_(self.base_lr * (1 - self.done / self.total))
        self.optimizer.grad_scale = self.scale * torch.clamp((norm + 1e-6) / MAX_NORM, min=1.0)
        self.optimizer.found_inf = overflowed
        self.optimizer.step()
        if self.half:
            self.flat.copy_(self.masters)
            torch._amp_update_scale_(self.scale, self.growth, overflowed, 2.0, 0.5, GROWTH_INTERVAL)
        self.done += 1 - overflowed
        self.loss_sum += loss.detach()

    def state(self):
        """All that a step changes; the optimizer's part is there from its first step on."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [self.masters, self.flat, self.scale, self.growth, self.done, self.loss_sum, *moments]

    def saved(self):
        return [value.clone() for value in self.state()]

    def restore(self, saved):
        """What came since begins as zeros, as the optimizer's state does."""
        for value, before in itertools.zip_longest(self.state(), saved):
            value.copy_(before) if before is not None else value.zero_()

    def record(self, examples):
        """A graph of each bucket; the steps that warm it up leave no trace. examples: key -> contents of a batch."""
        saved = self.saved()
        for key, host in examples.items():
            self.batches[key] = batch = Batch(key, self.device, self.dtype)
            if self.device != "cuda":
                continue
            batch.buffer.copy_(host)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.compute(batch)
            torch.cuda.current_stream().wait_stream(stream)
            self.graphs[key] = graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool):
                self.compute(batch)
            self.pool = self.pool or graph.pool()
        self.restore(saved)

    def train(self, plan, clock):
        self.record(dict(zip(plan.keys, plan.hosts)))
        for step, (key, host) in enumerate(zip(plan.keys, plan.hosts), 1):
            self.batches[key].buffer.copy_(host, non_blocking=True)
            if key in self.graphs:
                self.graphs[key].replay()
            else:
                self.compute(self.batches[key])
            if clock:
                clock.mark(step)


def parsed_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pad", type=int, default=8)
    parser.add_argument("--dtype", choices=("fp16", "fp32"), help="fp16 on a GPU, fp32 on a CPU where not given")
    parser.add_argument("--scale", type=float, default=INITIAL_SCALE, help="that the loss begins with in fp16")
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--token_multiple", type=int, default=32)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--dropout", type=float, help="the model's own where not given")
    parser.add_argument("--max_steps", type=int, default=0)
    parser.add_argument("--num_train_epochs", type=int, default=1)
    parser.add_argument("--timed_steps", type=int, default=0)
    parser.add_argument("--warm_up", type=int, default=0)
    parser.add_argument("--span", type=int, default=50)
    parser.add_argument("--save", help="a file for the trained masters")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ("fp16" if options.device == "cuda" else "fp32")
    return options


def run(options):
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    samples = encoded_rows(tokenizer, options.data_dir, "train", options.samples, options.max_length)
    epochs = -(-len(samples) // options.batch_size) * options.num_train_epochs
    options.steps = options.warm_up + options.timed_steps if options.timed_steps else options.max_steps or epochs
    options.total_steps = options.steps
    torch.manual_seed(options.seed)
    plan, loop = Plan(samples, options), Loop(options)
    clock = SpanClock(options.warm_up, options.span,
                      torch.cuda.synchronize if options.device == "cuda" else lambda: None)
    loop.train(plan, clock if options.timed_steps else None)
    loss = loop.loss_sum.item() / options.steps
    if options.save:
        from safetensors.torch import save_file
        save_file({name: view.cpu().contiguous() for name, view in loop.weights.views(loop.masters).items()},
                  options.save)
    return loop, {"ms_per_step": clock.ms_per_step(), "loss": loss, "seconds": time.time() - process_start(),
                  "updates": int(loop.done.item()), "buckets": len(loop.batches), "peak_mib": peak_mib(options.device),
                  **versions(options.device)}


def main():
    print(json.dumps(run(parsed_options())[1]))


if __name__ == "__main__":
    main()

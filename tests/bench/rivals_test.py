#!/usr/bin/env python3
"""The rivals of bench/compare, on a CPU and small: they compute what they should, and their programs run.

Skips with 77 where torch or transformers is missing. The loop's BERT is compared with transformers', padded and packed;
its update with torch's own clipping and AdamW; what needs a GPU (fp16, graphs) is not tested here.
"""
import importlib.util
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

MISSING = [name for name in ("torch", "transformers", "accelerate") if importlib.util.find_spec(name) is None]
if MISSING:
    print(f"not installed: {', '.join(MISSING)}")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/compare"))
import numpy as np
import torch
from transformers import BertForSequenceClassification

import jobs
import make_job
import sides
import torch_loop
from torch_bert import Batch, Bert, Layout, Weights, bucket

torch.set_num_threads(1)
ROWS, BATCH = 40, 4


def by_hf_name(weights, flat):
    """The loop's parameters under transformers' names: query, key and value apart."""
    found = {}
    for name, view in weights.views(flat).items():
        full = name if name.startswith("classifier") else f"bert.{name}"
        if ".qkv." in name:
            found |= {full.replace("qkv", part): piece
                      for part, piece in zip(("query", "key", "value"), view.chunk(3))}
        else:
            found[full] = view
    return found


def samples(folder):
    """Ids and labels without a tokenizer: word w123 is token 123."""
    lines = (folder / "data/train.tsv").read_text().splitlines()[1:]
    for line in lines:
        text, label = line.split("\t")
        yield {"input_ids": [2, *(int(word[1:]) for word in text.split()), 3], "label": int(label)}


class Rivals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        make_job.write_model(cls.folder / "model", "tiny")
        make_job.write_data(cls.folder / "data", ROWS)
        cls.samples = list(samples(cls.folder))
        cls.weights = Weights(cls.folder / "model")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def hf(self):
        return BertForSequenceClassification.from_pretrained(
            self.folder / "model", num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

    def hf_loss(self, model, chosen):
        longest = max(len(sample["input_ids"]) for sample in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, sample in enumerate(chosen):
            ids[row, :len(sample["input_ids"])] = torch.tensor(sample["input_ids"])
            mask[row, :len(sample["input_ids"])] = 1
        return model(input_ids=ids, attention_mask=mask, labels=torch.tensor([s["label"] for s in chosen])).loss

    def loop_loss(self, chosen, packed):
        """Loss and flat gradient of the loop's BERT without dropout."""
        flat = torch.zeros(self.weights.size)
        self.weights.fill(flat)
        bert = Bert(self.weights, flat, dropout=0.0)
        lengths = np.array([len(sample["input_ids"]) for sample in chosen])
        key = bucket(lengths, BATCH, 8, 32 if packed else 0)
        batch, layout = Batch(key, "cpu", torch.float32), Layout(key)
        layout.write(batch.buffer.numpy(), np.concatenate([sample["input_ids"] for sample in chosen]), lengths,
                     np.array([sample["label"] for sample in chosen]))
        loss = bert.loss(batch)
        grads = torch.zeros_like(flat)
        torch._foreach_copy_(list(self.weights.views(grads).values()), torch.autograd.grad(loss, bert.parameters))
        return key, loss, grads

    def check_against_hf(self, chosen, packed):
        model = self.hf()
        expected = self.hf_loss(model, chosen)
        expected.backward()
        key, loss, grads = self.loop_loss(chosen, packed)
        self.assertAlmostEqual(loss.item(), expected.item(), places=5)
        largest = max(parameter.grad.abs().max().item() for parameter in model.parameters())
        found = by_hf_name(self.weights, grads)
        self.assertEqual(set(found), {name for name, _ in model.named_parameters()})
        for name, parameter in model.named_parameters():
            self.assertLess((found[name] - parameter.grad).abs().max().item(), 1e-5 * largest, name)
        return key

    def test_padded_batch_is_transformers_bert(self):
        self.assertEqual(self.check_against_hf(self.samples[:BATCH], packed=False)[1], 0)

    def test_packed_batch_is_transformers_bert(self):
        self.assertGreater(self.check_against_hf(self.samples[:BATCH], packed=True)[1], 0)

    def test_batch_with_fewer_sentences(self):
        for packed in (False, True):
            self.check_against_hf(self.samples[:BATCH - 1], packed)

    def test_many_words_are_looked_up_otherwise(self):
        with unittest.mock.patch("torch_bert.MOST_EMBEDDED", 0):
            for packed in (False, True):
                self.check_against_hf(self.samples[:BATCH], packed)

    def test_full_batch_needs_no_mask(self):
        sample = {"input_ids": [2, 7, 8, 9, 10, 11, 12, 3], "label": 1}
        for packed in (False, True):
            self.assertEqual(self.check_against_hf([sample] * BATCH, packed), (BATCH, 0, 8, True))

    def test_updates_are_torch_s(self):
        """Clipping, decay groups, linear schedule: five steps at a large lr, against torch's own."""
        steps, lr = 5, 1e-3
        options = torch_loop.parsed_options(
            ["--model", str(self.folder / "model"), "--data_dir", str(self.folder / "data"), "--dropout", "0",
             "--batch_size", str(BATCH), "--max_steps", str(steps), "--learning_rate", str(lr)])
        loop, result = torch_loop.run(options)
        self.assertEqual(result["updates"], steps)
        model = self.hf()
        decayed = [p for name, p in model.named_parameters() if not name.endswith("bias") and "LayerNorm" not in name]
        rest = [p for p in model.parameters() if all(p is not other for other in decayed)]
        optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0}],
                                      lr=lr)
        losses = []
        for step, rows in enumerate(torch_loop.Plan.batches(ROWS, options)):
            loss = self.hf_loss(model, [self.samples[row] for row in rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), torch_loop.MAX_NORM)
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / steps)
            optimizer.step()
            losses.append(loss.item())
        self.assertAlmostEqual(result["loss"], sum(losses) / steps, places=4)
        found = by_hf_name(loop.weights, loop.masters)
        for name, parameter in model.named_parameters():
            if not name.endswith("key.bias"):   # its true gradient is zero: AdamW moves along rounding
                difference = (found[name] - parameter).abs().mean().item()
                self.assertLess(difference, 0.01 * lr, name)

    def loop(self, *more):
        return torch_loop.parsed_options(
            ["--model", str(self.folder / "model"), "--data_dir", str(self.folder / "data"), "--batch_size", str(BATCH),
             "--learning_rate", "1e-3", *more])

    def test_fp16_follows_fp32(self):
        """The same steps; a scale that overflows is halved, and its steps change nothing."""
        _, exact = torch_loop.run(self.loop("--dropout", "0", "--max_steps", "8"))
        loop, half = torch_loop.run(self.loop("--dropout", "0", "--max_steps", "8", "--dtype", "fp16"))
        self.assertEqual((half["updates"], loop.scale.item()), (8, torch_loop.INITIAL_SCALE))
        self.assertAlmostEqual(half["loss"], exact["loss"], places=2)
        loop, half = torch_loop.run(self.loop("--dropout", "0", "--max_steps", "8", "--dtype", "fp16",
                                              "--scale", str(2.0**22)))
        skipped = 8 - half["updates"]
        self.assertGreater(skipped, 0)
        self.assertLess(skipped, 8)
        self.assertEqual(loop.scale.item(), 2.0**(22 - skipped))
        self.assertEqual([state["step"].item() for state in loop.optimizer.state.values()], [half["updates"]] * 2)
        self.assertTrue(all(torch.isfinite(value).all() for value in loop.state()))

    def test_what_warms_a_graph_up_leaves_no_trace(self):
        options = self.loop("--dropout", "0", "--max_steps", "3")
        options.steps = options.total_steps = 3
        plan = torch_loop.Plan(self.samples, options)
        warmed, fresh = torch_loop.Loop(options), torch_loop.Loop(options)
        warmed.record(dict(zip(plan.keys, plan.hosts)))
        saved = warmed.saved()
        for key, host in zip(plan.keys, plan.hosts):
            warmed.batches[key].buffer.copy_(host)
            warmed.compute(warmed.batches[key])
        self.assertEqual(len(saved), 6)
        warmed.restore(saved)
        for loop in (warmed, fresh):
            loop.train(plan, None)
        for ours, theirs in zip(warmed.state(), fresh.state(), strict=True):
            self.assertTrue(torch.equal(ours, theirs))

    def test_programs_run(self):
        job = jobs.Job("tiny", "", shape="tiny", batch=BATCH, warm_up=2, timed=4, span=2)
        for side, options in ((jobs.HF, ["--pad_to_multiple_of", "8", "--threads", "1"]), (jobs.LOOP, ["--packed"])):
            figure = sides.rival_step(side, job, self.folder, options, 300, "cpu")
            self.assertEqual(figure["status"], "measured", figure)
            self.assertEqual(figure["ms_per_step"]["spans"], 2)
            self.assertGreater(figure["samples_per_s"], 0)
            self.assertEqual(figure["versions"]["torch"], torch.__version__)


if __name__ == "__main__":
    unittest.main()

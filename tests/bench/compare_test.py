#!/usr/bin/env python3
"""bench/compare without its rivals: tables, files of figures, what is made for a job, and how a side is timed."""
import collections
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SST2 = ROOT / "build/release/bin/sst2"
sys.path.insert(0, str(ROOT / "bench/compare"))
import figures
import jobs
import make_job
import sides
import tables

NOW, BEFORE = "2026-11-29T12:00:00", "2026-11-28T12:00:00"


def step(side, ms, variant="as it comes", job=jobs.SEED_JOB, run=NOW, commit="abc1234", **more):
    return {"what": "step", "job": job.name, "side": side, "variant": variant, "status": "measured", "run": run,
            "commit": commit, "date": run[:10] + " 12:00", "samples_per_s": job.batch / ms * 1000,
            "ms_per_step": {"median": ms, "low": ms - 0.1, "high": ms + 0.2, "spans": 9}, **more}


def failure(side, reason, variant="as it comes"):
    return {"what": "step", "job": "sst2", "side": side, "variant": variant, "status": "failed", "reason": reason,
            "run": NOW, "commit": "abc1234", "date": "2026-11-29 12:00"}


def record(*all_figures):
    return figures.Record("NVIDIA H200", "cuda", "580.1", "a host", all_figures)


def cells(table):
    """Title of a row (the side, without its variant) -> its cells."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert len({len(row) for row in rows}) == 1, "rows of one width"
    return {row[0].split(" (")[0]: row for row in rows[2:]}


class StepTable(unittest.TestCase):
    def rows(self, *all_figures, reasons=None, job=jobs.SEED_JOB):
        return cells(tables.step_table(record(*all_figures), job, NOW, reasons or {}))

    def test_nothing_measured(self):
        for rows in (self.rows(), cells(tables.step_table(None, jobs.SEED_JOB, NOW, {}))):
            self.assertEqual(list(rows), [jobs.TITLES[side] for side in jobs.SIDES])
            for row in rows.values():
                self.assertEqual((row[1], row[2], row[3], row[5], row[6], row[7]),
                                 ("not yet measured", "", "", "", "not yet measured", ""))
            self.assertEqual(rows["sinter"][4], "2.2 / 1.3 ms")
            self.assertEqual(rows["HF Trainer"][4], "6 / 12 times")

    def test_ratios_and_goals(self):
        rows = self.rows(step(jobs.SINTER, 2.0), step(jobs.HF, 25.0), step(jobs.COMPILED, 7.0, "default, pad 16"),
                         step(jobs.LOOP, 3.5, "graphs"))
        self.assertEqual(rows["sinter"], ["sinter", "2.00 (1.90 to 2.20)", "8000", "", "2.2 / 1.3 ms: must met",
                                          "25.3 s", "not yet measured", "this run"])
        self.assertEqual(rows["HF Trainer"][2:5], ["640", "12.5 times", "6 / 12 times: aim met"])
        self.assertEqual(rows["HF Trainer + torch.compile"][3:5], ["3.50 times", "4 / 8 times: missed"])
        self.assertEqual(rows["hand-tuned PyTorch loop"][3:5], ["1.75 times", "1.5 / 3 times: must met"])

    def test_the_best_variant_counts(self):
        found = record(step(jobs.COMPILED, 9.0, "default, pad 16"), step(jobs.COMPILED, 7.5, "dynamic, pad 8"),
                       failure(jobs.COMPILED, "out of memory", "static, pad 64"))
        self.assertEqual(tables.best(found, jobs.SEED_JOB, jobs.COMPILED)[0], "dynamic, pad 8")
        row = tables.step_row(found, jobs.SEED_JOB, jobs.COMPILED, NOW, {})
        self.assertEqual(row[:2], ["HF Trainer + torch.compile (dynamic, pad 8)", "7.50 (7.40 to 7.70)"])
        lines = tables.variant_lines(found, jobs.SEED_JOB)
        self.assertIn("default, pad 16: 9.00 ms; static, pad 64: failed (out of memory); dynamic, pad 8: 7.50 ms; "
                      f"{len(jobs.COMPILED_PADDED) - 3} not yet measured.", lines)

    def test_no_ratio_between_commits(self):
        rows = self.rows(step(jobs.SINTER, 2.0), step(jobs.HF, 25.0, run=BEFORE, commit="0000000"))
        self.assertEqual(rows["HF Trainer"][3:5], ["not of one commit", "6 / 12 times"])
        self.assertEqual(rows["HF Trainer"][7], "earlier run: 2026-11-28 12:00, commit 0000000")

    def test_why_there_is_no_figure(self):
        rows = self.rows(failure(jobs.LOOP, "CUDA out of memory"), reasons={jobs.HF: "not run: torch is not installed"})
        self.assertEqual(rows["HF Trainer"][1], "not run: torch is not installed")
        self.assertEqual(rows["hand-tuned PyTorch loop"][1], "failed: CUDA out of memory")
        self.assertEqual(rows["sinter"][1], "not yet measured")

    def test_a_measured_figure_stays_where_this_run_cannot(self):
        rows = self.rows(step(jobs.HF, 25.0, run=BEFORE), reasons={jobs.HF: "not run: torch is not installed"})
        self.assertEqual(rows["HF Trainer"][1], "25.0 (24.9 to 25.2)")

    def test_whole_job(self):
        whole = {"what": "whole", "job": "sst2", "side": jobs.SINTER, "variant": "as it comes", "status": "measured",
                 "seconds": 31.25, "run": NOW, "commit": "abc1234", "date": "2026-11-29 12:00"}
        self.assertEqual(self.rows(step(jobs.SINTER, 2.0), whole)["sinter"][5:7], ["25.3 s", "31.2 s"])

    def test_jobs_of_full_length_have_no_whole_job(self):
        for job in jobs.GPU_JOBS[1:]:
            rows = self.rows(step(jobs.SINTER, job.goal_ms[0] + 1, job=job), job=job)
            self.assertEqual(len(rows["sinter"]), 6)
            self.assertTrue(rows["sinter"][4].endswith("ms: missed"))
            self.assertEqual(rows["HF Trainer"][4], "")

    def test_numbers(self):
        shown = [tables.number(value) for value in (0.1234, 1.234, 12.34, 123.4, 12345.6)]
        self.assertEqual(shown, ["0.123", "1.23", "12.3", "123", "12346"])


class OtherTables(unittest.TestCase):
    def test_adamw(self):
        self.assertIn("| not yet measured | 92 / 96 % |", tables.adamw_table(None, NOW))
        figure = {"what": "adamw", "job": "adamw", "side": jobs.SINTER, "variant": "as it comes", "status": "measured",
                  "percent_of_copy": 94.0, "run": NOW, "commit": "abc1234", "date": ""}
        self.assertIn("| 94.0 % | 92 / 96 %: must met | this run |", tables.adamw_table(record(figure), NOW))

    def test_cpu(self):
        job = jobs.CPU_JOBS[0]

        def cpu(side, speed):
            return {"what": "cpu", "job": job.name, "side": side, "variant": "2 threads", "status": "measured",
                    "run": NOW, "commit": "abc1234", "date": "", "peak_mib": 500.0,
                    "samples_per_s": {"median": speed, "low": speed - 1, "high": speed + 1, "rounds": 3}}

        rows = cells(tables.cpu_table(record(cpu(jobs.SINTER, 160.0)), job, NOW, {jobs.HF: "not run: no torch"}))
        self.assertEqual(rows["sinter"], ["sinter", "160 (159 to 161)", "100", "", "500", "this run"])
        self.assertEqual(rows["HF Trainer"][1], "not run: no torch")
        rows = cells(tables.cpu_table(record(cpu(jobs.SINTER, 160.0), cpu(jobs.HF, 40.0)), job, NOW, {}))
        self.assertEqual(rows["HF Trainer"][3], "4.00 times")


class Files(unittest.TestCase):
    def test_round_trip_and_the_later_figure_stays(self):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            path = record(step(jobs.HF, 25.0, run=NOW), step(jobs.SINTER, 2.0)).save(first)
            self.assertEqual(path.name, "compare_nvidia_h200.json")
            record(step(jobs.HF, 30.0, run=BEFORE), step(jobs.LOOP, 4.0, "graphs", run=BEFORE)).save(second)
            for folders in ((first, second), (second, first)):
                found = figures.load_all(folders)["NVIDIA H200"]
                self.assertEqual((found.kind, found.driver, found.host), ("cuda", "580.1", "a host"))
                self.assertEqual(len(found.figures), 3)
                self.assertEqual(found.of("step", "sst2", jobs.HF)["as it comes"]["ms_per_step"]["median"], 25.0)

    def test_files_of_another_kind_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "compare_x.json"
            for text, said in (('{"format": 2}', "has format 2"), ("[]", "is no file"), ("{", "is no file")):
                path.write_text(text)
                with self.assertRaisesRegex(figures.BadFile, f"compare_x.json.*{said}"):
                    figures.load_all([folder])

    def test_committed_files_can_be_read(self):
        for found in figures.load_all([ROOT / "bench/results"]).values():
            self.assertTrue(found.figures)


class MadeJobs(unittest.TestCase):
    def test_sentences_are_as_long_as_sst2_s(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            make_job.write_data(folder)
            lines = (folder / "train.tsv").read_text().splitlines()[1:]
            lengths = collections.Counter(len(line.split()) + 1 for line in lines)   # its label counts for one of two
            shape = json.loads((ROOT / "bench/compare/sst2_shape.json").read_text())["lengths"]
            self.assertEqual(lengths, {int(length): count for length, count in shape.items()})
            self.assertEqual(len(lines), 67349)

    def test_full_length(self):
        with tempfile.TemporaryDirectory() as folder:
            make_job.write_data(pathlib.Path(folder), rows=5, length=12)
            lines = (pathlib.Path(folder) / "train.tsv").read_text().splitlines()[1:]
            self.assertEqual([len(line.split("\t")[0].split()) for line in lines], [10] * 5)

    def test_model_file(self):
        with tempfile.TemporaryDirectory() as folder:
            make_job.write_model(pathlib.Path(folder), "tiny")
            data = (pathlib.Path(folder) / "model.safetensors").read_bytes()
            length, = struct.unpack("<Q", data[:8])
            header = json.loads(data[8:8 + length])
            self.assertEqual(len(header) - 1, 2 * 16 + 3 + 2 + 4)   # 2 layers, embeddings, pooler and classifier
            self.assertEqual(max(tensor["data_offsets"][1] for name, tensor in header.items()
                                 if name != "__metadata__"), len(data) - 8 - length)


class Sides(unittest.TestCase):
    JOB = jobs.Job("tiny", "", batch=16, warm_up=4, timed=6, span=2)

    def program(self, folder, text):
        path = pathlib.Path(folder) / "program"
        path.write_text("#!/usr/bin/env python3\nimport sys, time\n" + text)
        path.chmod(0o755)
        return path

    def sinter(self, text, seconds=30):
        with tempfile.TemporaryDirectory() as folder:
            return sides.sinter_step(self.program(folder, text), self.JOB, pathlib.Path(folder), None, seconds)

    def test_spans_between_log_lines(self):
        """A log line every 2 steps; the first ends at step 2, and the clock starts at step 4."""
        figure = self.sinter("print('device: cuda:0 (X)')\nfor wait in (0.3, 0, 0.02, 0.04, 0.06):\n"
                             "  time.sleep(wait)\n  print(\"{'loss': 0.6}\", flush=True)\n")
        self.assertEqual((figure["status"], figure["ms_per_step"]["spans"]), ("measured", 3))
        self.assertEqual(figure["versions"], {"sinter": "cuda:0 (X)"})
        self.assertGreaterEqual(figure["ms_per_step"]["low"], 5)
        self.assertLess(figure["ms_per_step"]["low"], figure["ms_per_step"]["high"])
        self.assertAlmostEqual(figure["samples_per_s"], 16 / figure["ms_per_step"]["median"] * 1000)

    def test_options_of_the_program(self):
        figure = self.sinter("sys.exit(' '.join(sys.argv[1:]))")
        for part in ("--device cuda --fp16", "--max_steps 10", "--logging_steps 2", "--per_device_train_batch_size 16"):
            self.assertIn(part, figure["command"])
        self.assertEqual(figure["status"], "failed")

    @unittest.skipUnless(SST2.exists(), "sst2 is not built")
    def test_sst2_takes_these_options(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            make_job.write_model(folder / "model", "tiny")
            make_job.write_data(folder / "data", 64)
            figure = sides.sinter_step(SST2, self.JOB, folder, None, 60, device="cpu")
        self.assertEqual(figure["status"], "measured", figure)
        self.assertTrue(figure["versions"]["sinter"].startswith("cpu ("), figure)

    def test_a_failure_says_why(self):
        self.assertEqual(self.sinter("sys.exit('no GPU | can be used')")["reason"], "no GPU / can be used")
        self.assertEqual(self.sinter("time.sleep(60)", seconds=0.5)["reason"], "it did not end in 0 s")
        self.assertEqual(self.sinter("")["reason"], "it ended before a span was timed")

    def test_adamw_is_the_starred_row(self):
        table = ("| kernel | variant | us | spread % | GB/s | % of copy | TFLOP/s | goal | reached |\\n|---|\\n"
                 "| adamw 110 | other | 900.00 | 0.1 | 3000 | 70 | 0.1 | 92 % of copy | |\\n"
                 "| adamw 110 | flat * | 770.00 | 0.1 | 4000 | 93 | 0.1 | 92 % of copy | met (1.01) |")
        with tempfile.TemporaryDirectory() as folder:
            figure = sides.adamw(self.program(folder, f"print('''{table}''')"), None, 30)
        self.assertEqual(figure["percent_of_copy"], 93)


class Program(unittest.TestCase):
    def test_it_prints_its_tables_anywhere(self):
        with tempfile.TemporaryDirectory() as folder:
            output = subprocess.run(["bash", ROOT / "bench/compare/run.sh", "--show", "--results", folder],
                                    capture_output=True, text=True, check=True).stdout
        for job in jobs.GPU_JOBS + jobs.CPU_JOBS:
            self.assertIn(f"## {job.title}\n\n| side |", output)


if __name__ == "__main__":
    unittest.main()

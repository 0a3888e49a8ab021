#!/usr/bin/env python3
"""Runs a command on a machine whose processors others take away, to find tests that lean on time.

  python3 tests/tools/steal_cpu.py bash tests/run.sh                 all processors at once, for up to 0.9 s, at random
  python3 tests/tools/steal_cpu.py --load 8 bash tests/run.sh        8 processes that compute beside it

The first is what a virtual machine sees whose host is busy; it uses the real-time scheduler, and so needs root. Exit
code: the command's. A test that fails here and not alone is one that a busy CI will refuse some day.
"""
import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import time


def random_spans(seed):
    """(begin, end) of 100,000 thefts, for hours."""
    choose = random.Random(seed).choice
    spans, now = [], time.monotonic() + 0.5
    for _ in range(100_000):
        length, pause = choose([0.05, 0.3, 0.9]), choose([0.05, 0.3, 1.0])
        spans.append((now, now + length))
        now += length + pause
    return spans


def endless_spans():
    now = time.monotonic()
    return ((now + i, now + i + 1) for i in itertools.count())


def start_thief(spans, cpu=None):
    """A process that computes in these spans; with `cpu` nothing else runs there meanwhile. It ends with this one."""
    parent = os.getpid()
    process = os.fork()
    if process != 0:
        return process
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # the parent ends it
    try:
        if cpu is not None:
            os.sched_setaffinity(0, [cpu])
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        for begin, end in spans:
            time.sleep(max(0.0, begin - time.monotonic()))
            if os.getppid() != parent:   # which may have been killed
                break
            while time.monotonic() < end:
                pass
    except OSError as error:
        print(f"steal_cpu.py: {error}; run it as root, or with --load", file=sys.stderr)
    os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=int, metavar="N", help="N processes that compute, instead of thefts")
    parser.add_argument("--seed", type=int, default=0, help="of the thefts' times")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command or (options.load is not None and options.load < 1):
        parser.error("a command is needed, and N is at least 1")
    if options.load:
        thieves = [start_thief(endless_spans()) for _ in range(options.load)]
    else:
        spans = random_spans(options.seed)
        thieves = [start_thief(spans, cpu) for cpu in sorted(os.sched_getaffinity(0))]
    time.sleep(0.2)
    try:
        count = len(thieves)
        thieves = [thief for thief in thieves if os.waitpid(thief, os.WNOHANG)[0] == 0]
        if len(thieves) < count:   # who ended has said why
            return 1
        return subprocess.call(options.command)
    except OSError as error:
        print(f"steal_cpu.py: {error}", file=sys.stderr)
        return 127
    finally:
        for thief in thieves:
            os.kill(thief, signal.SIGKILL)
            os.waitpid(thief, 0)


if __name__ == "__main__":
    sys.exit(main())

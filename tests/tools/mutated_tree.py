"""A copy of the checkout with a build folder of its own, in which one line at a time is broken and tests are run."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def copy_tree(target: pathlib.Path):
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an archive without git
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not name.startswith(("build/", "."))]
    for name in names:
        if not (ROOT / name).is_file() or name.startswith("shared/"):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def end_on_signals():
    """So that temporary folders are removed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


class Tree:
    """The copy in `folder`, with `targets` built after `prepare` changed its sources. The checkout is never written to."""

    def __init__(self, folder: pathlib.Path, *targets, prepare=lambda root: None):
        self.root = folder / "tree"
        self.build = self.root / "build" / "release"
        self.environment = dict(os.environ, CCACHE_BASEDIR=str(self.root), CCACHE_NOHASHDIR="1")
        copy_tree(self.root)
        prepare(self.root)
        self.command(["cmake", "--preset", "release", "-DSINTER_BENCH=OFF"], check=True)
        self.compile(*targets, check=True)

    def command(self, arguments, check=False, seconds=1800, variables={}):
        """The exit code; a test that never ends counts as failed."""
        try:
            done = subprocess.run(arguments, cwd=self.root, env={**self.environment, **variables}, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds)
        except subprocess.TimeoutExpired:
            return -1
        if check and done.returncode != 0:
            sys.exit(" ".join(arguments) + " failed\n" + done.stdout[-4000:])
        return done.returncode

    def compile(self, *targets, check=False):
        return self.command(["cmake", "--build", str(self.build), "--target", *targets], check) == 0

    def passes(self, program, suites, variables={}):
        # The first failure decides; a crash counts as one.
        command = [str(self.build / "bin" / program), "--gtest_brief=1", "--gtest_fail_fast",
                   "--gtest_filter=" + suites]
        return self.command(command, seconds=300, variables=variables) == 0

    def outcome(self, file, start, old, new, programs):
        """What became of `new` in place of `old`, which stands at offset `start` of `file`: the first of `programs`,
        pairs of a name and its suites, that failed, or what is wrong."""
        path = self.root / file
        source = path.read_text(encoding="utf-8")
        if source[start:start + len(old)] != old:
            return f"WRONG: the old text does not stand in {file}"
        try:
            path.write_text(source[:start] + new + source[start + len(old):], encoding="utf-8")
            for program, suites in programs:
                if not self.compile(program):
                    return "WRONG: does not compile"
                if not self.passes(program, suites):
                    return program
            return "SURVIVED"
        finally:
            path.write_text(source, encoding="utf-8")

"""What is compared: jobs, sides, their variants, and the goals that stand beside the figures."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job. length None: as long as SST-2's sentences. Goals are ms a step on an H200: (must, aim)."""
    name: str
    title: str
    shape: str = "bert-base"
    batch: int = 16
    length: int | None = None
    rows: int = 0                     # sentences made for it; 0: make_job.py's own number
    warm_up: int = 100                # steps before the clock starts: on a GPU
    timed: int = 250
    span: int = 25                    # the device is waited for once in so many steps
    goal_ms: tuple | None = None
    goal_ratios: dict = dataclasses.field(default_factory=dict)   # side -> (must, aim)
    whole_steps: int | None = None    # steps of the whole job, where there is one


SINTER, HF, COMPILED, LOOP = "sinter", "hf", "hf_compile", "torch_loop"
SIDES = (SINTER, HF, COMPILED, LOOP)
TITLES = {SINTER: "sinter", HF: "HF Trainer", COMPILED: "HF Trainer + torch.compile", LOOP: "hand-tuned PyTorch loop"}

SEED_JOB = Job("sst2", "The seed's job: BERT-base, lengths of SST-2, batch 16, fp16", warm_up=300, timed=500, span=50,
               goal_ms=(2.2, 1.3), goal_ratios={HF: (6, 12), COMPILED: (4, 8), LOOP: (1.5, 3)}, whole_steps=12630)
GPU_JOBS = (
    SEED_JOB,
    Job("32x128", "32 sentences of 128 tokens, BERT-base, fp16", batch=32, length=128, rows=2048, goal_ms=(6.2, 5.4)),
    Job("256x128", "256 sentences of 128 tokens, BERT-base, fp16", batch=256, length=128, rows=16384, warm_up=50,
        timed=100, span=10, goal_ms=(34.5, 31)),
    Job("32x512", "32 sentences of 512 tokens, BERT-base, fp16", batch=32, length=512, rows=2048, warm_up=50,
        timed=100, span=10, goal_ms=(22, 19.5)),
)
CPU_JOBS = (
    Job("minilm_cpu", "MiniLM-L6's size, lengths of SST-2, batch 16, 320 sentences, f32", shape="minilm", rows=320),
    Job("bert_base_cpu", "BERT-base's size, lengths of SST-2, batch 16, 64 sentences, f32", rows=64),
)

# The optimizer alone (kbench): share of the speed of a plain copy, in percent.
ADAMW_GOAL = (92, 96)

# The likely best first: a run that is short of time has measured those.
COMPILED_PADDED = (("default", 16), ("static", 64), ("reduce-overhead", 64), ("dynamic", 8),
                   ("max-autotune-no-cudagraphs", 64), ("default", 8), ("static", 16), ("reduce-overhead", 16),
                   ("dynamic", 16), ("max-autotune-no-cudagraphs", 16), ("default", 64), ("dynamic", 64))
COMPILED_FULL = ("default", "reduce-overhead", "max-autotune-no-cudagraphs")


def variants(job, side):
    """Name -> options of the rival's program. The fastest that was measured is the side's figure."""
    if side == HF:
        found = {"as it comes": []}
        return found if job.length else found | {"pad 8": ["--pad_to_multiple_of", "8"]}
    if side == COMPILED and job.length:
        return {mode: ["--compile", mode] for mode in COMPILED_FULL}
    if side == COMPILED:
        return {f"{mode}, pad {pad}": ["--compile", mode, "--pad_to_multiple_of", str(pad)]
                for mode, pad in COMPILED_PADDED}
    if side == LOOP:
        found = {"graphs": [], "graphs, compiled": ["--compile"]}
        return found if job.length else found | {
            "packed, graphs": ["--packed", "--pad", "16"],
            # Every bucket is compiled, so there are few of them.
            "packed, graphs, compiled": ["--packed", "--compile", "--pad", "32", "--token_multiple", "64"]}
    return {"as it comes": []}

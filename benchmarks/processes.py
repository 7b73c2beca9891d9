"""How far two processes' losses are from one's: python -m benchmarks.processes [OVERRIDE ...]

Each route is trained for 100 steps of 32 texts by one process on the CPU, and by two that share the texts, and then the
weights as well. Of the curves of the loss, in training and at validation, and of the norm of the gradient: the largest
relative difference from one process's.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Figure, call, show
from diffusion_text.runs import Run
from diffusion_text.storage import read_csv

TINY = ["tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=2", "model.heads=2"]
BART = ["dim=16", "layers=1", "heads=2", "vocab_size=300", "max_steps=20"]
ROUTES = {
    "latent": [f"text_space.{setting}" for setting in BART],
    "embedding": ["model=diffusion_lm", *TINY],
    "masked": ["model=masked_diffusion", *TINY],
}
COMMON = [
    "data=markov", "data.size=100000", "data.length=16", "data.global_batch_size=32", "data.eval_texts=101",
    "trainer.max_steps=100", "trainer.val_check_interval=25", "trainer.log_every_n_steps=1", "preflight=off",
    "callbacks.samples=null", "num_samples=0", *(f"report.{name}=0" for name in ("quality", "frontier", "garbled")),
    "report.trace_steps=0",
]  # fmt: skip
TWO = ["trainer.accelerator=cpu", "trainer.devices=2"]
CURVES = ("train/loss", "val/loss", "train/gradient_norm")


def figures(overrides: list[str]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        for route, settings in ROUTES.items():
            for trainer, own in (("cpu", []), ("ddp", TWO), ("fsdp", TWO)):
                run = Path(directory, f"{route}-{trainer}")
                places = [f"hydra.run.dir={run}", f"cache_dir={directory}/cache"]
                call("train.py", *COMMON, *settings, f"trainer={trainer}", *own, *places, *overrides)
                if own:
                    alone = Path(directory, f"{route}-cpu")
                    furthest = ", ".join(f"{name} {apart(run, alone, name):.0e}" for name in CURVES)
                    yield f"{route}, trainer={trainer}", furthest, "of one process's"


def apart(run: Path, other: Path, name: str) -> float:
    """The largest relative difference between two runs' curves."""
    curves = [[float(row[name]) for row in read_csv(Run(each).history) if row[name]] for each in (run, other)]
    return max(abs(one - two) / abs(two) for one, two in zip(*curves, strict=True))


if __name__ == "__main__":
    show(figures(sys.argv[1:]))

"""What lies around training, as ratios: python -m benchmarks.throughput [OVERRIDE ...]

Text to tokens, and to latents in batches and one text at a time; texts sampled at each NFE, beside an autoregressive
model of the same blocks with its cache of keys and values; cold starts. Networks are untrained, which costs the same.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import ROOT, Figure, configured, show
from diffusion_text.composition import Training, compose_training
from diffusion_text.data.base import SPLITS

NFE, TEXTS = (4, 16, 64, 256), 64
LATENTS = ["model=textunet"]
DIFFUSION = ["experiment=embedding_flow", "data=python_docs"]
AUTOREGRESSIVE = ["experiment=autoregressive", "data=python_docs"]


def built(place: str, *overrides: str) -> Training:
    """A training that does not start."""
    training = compose_training(configured(*overrides, f"run_dir={place}"))
    training.model.to(training.trainer.strategy.root_device).eval()
    return training


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes, on whatever device."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def tokenising(place: str, overrides: list[str]) -> Iterator[Figure]:
    """A corpus into a new cache, and its second start."""
    fresh = [*DIFFUSION, f"cache_dir={place}/tokens", *overrides]
    first, second = (seconds(lambda: built(place, *fresh)) for _ in range(2))
    data = built(place, *fresh).data
    megabytes = sum(len(paragraph.encode()) for split in SPLITS for paragraph in data.paragraphs(split)) / 1e6
    yield "corpus to tokens", f"{megabytes / (first - second):.2f} MB/s", f"second start {second:.1f} s"


def encoding(place: str, overrides: list[str]) -> Iterator[Figure]:
    """Texts to latents in batches, and one by one."""
    training = built(place, *LATENTS, *overrides)
    space, texts = training.model.text_space, training.data.batch("validation", TEXTS)
    tokens, mask = texts["tokens"], texts["mask"]
    alone = [(ids[real][None], real[real][None]) for ids, real in zip(tokens, mask, strict=True)]
    space.encode_raw(tokens, mask)
    together = seconds(lambda: space.encode_raw(tokens, mask))
    apart = seconds(lambda: [space.encode_raw(*text) for text in alone])
    megabytes = 4 * space.dim * int(mask.sum()) / 1e6
    yield "tokens to latents", f"{megabytes / together:.2f} MB/s", f"{apart / together:.1f} × one text at a time"


def sampling(place: str, overrides: list[str]) -> Iterator[Figure]:
    """Texts a second at each NFE."""
    causal = built(place, *AUTOREGRESSIVE, *overrides)
    length = causal.data.length
    beside = texts_a_second(causal, length)
    yield "autoregressive, cached", f"{beside:.1f} texts/s", f"NFE {length}"
    for nfe in NFE:
        rate = texts_a_second(built(place, *DIFFUSION, f"sampler.num_steps={nfe}", *overrides), length)
        yield f"embedding_flow, NFE {nfe}", f"{rate:.1f} texts/s", f"{rate / beside:.2f} × autoregressive"


def texts_a_second(training: Training, length: int) -> float:
    """Texts of so many tokens, sampled together."""
    return TEXTS / seconds(lambda: training.model.sample(training.sampler, TEXTS, 0, length))


def starting(place: str, overrides: list[str]) -> Iterator[Figure]:
    """From the command line to its first words, and to a first step with a cache that is there."""
    train = [sys.executable, str(ROOT / "train.py")]
    told = seconds(lambda: subprocess.run([*train, "--help"], check=True, capture_output=True))
    yield "train.py --help", f"{told:.1f} s", ""
    metrics = Path(place) / "run" / "metrics.csv"
    command = [*train, *DIFFUSION, "trainer.log_every_n_steps=1", f"hydra.run.dir={metrics.parent}", *overrides]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as training:
        yield "first step", f"{seconds(lambda: wait_for(metrics)):.1f} s", ""
        training.kill()


def wait_for(file: Path) -> None:
    """Until it is there."""
    while not file.is_file():
        time.sleep(0.02)


def figures(overrides: list[str]) -> Iterator[Figure]:
    """Of each part."""
    with tempfile.TemporaryDirectory() as place:
        for part in (tokenising, encoding, sampling, starting):
            yield from part(place, overrides)


if __name__ == "__main__":
    show(figures(sys.argv[1:]))

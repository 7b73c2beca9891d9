"""What recipes cost at the field's sizes: python -m benchmarks.scaling [utilisation=0.45]

Counts the operations of a training step of each recipe on each corpus, with stand-ins for texts and tokenizer of its
length and number of tokens, and writes docs/pages/scaling.md: operations, bytes and hours for a billion tokens, on one
H200 and on 64, and the bill for the field's training. Where there is a GPU, its utilisation is measured. What has a row
in docs/scaling.jsonl is not counted again.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.rows import ROOT, add_row, configured, read_rows, table
from benchmarks.training import counted, loss_of, measure
from diffusion_text.commands import arguments
from diffusion_text.composition import compose_training
from diffusion_text.models.tokenizers import SPECIAL_TOKENS, wrapped

ROWS, PAGE = ROOT / "docs" / "scaling.jsonl", ROOT / "docs" / "pages" / "scaling.md"
PEAK, MEMORY, LINK = 989e12, 141e9, 50e9  # of an H200 SXM in bf16, dense (NVIDIA's data sheet); 400 Gb/s for each GPU
GPUS = (1, 64)
STEPS, TEXTS = 1_000_000, 512  # the field's training (Sahoo et al. 2024; configs/config.yaml of kuleshov-group/mdlm)
ASSUMED = 0.45
COUNTED = 2  # texts of a step that is counted
STATE = 20  # bytes a parameter: weights, gradients, two moments, averages
SIZES = {
    "small": ["model.width=768", "model.depth=12", "model.heads=12"],
    "medium": ["model.width=1024", "model.depth=24", "model.heads=16"],
}
RECIPES = ("embedding_flow", "latent_flow", "masked_diffusion", "autoregressive")
HELD = "masked_diffusion"  # that the arithmetic is shown of
Key = tuple[str, str, str]  # recipe, size, corpus


class Corpus(NamedTuple):
    """A corpus by `data=`, tokens of a text, and whose tokenizer it has in the field, of how many tokens."""

    data: str
    length: int
    tokenizer: str
    vocabulary: int


CORPORA = {
    "LM1B": Corpus("lm1b", 128, "bert-base-uncased", 30_522),
    "OpenWebText": Corpus("openwebtext", 1024, "gpt2", 50_257),
}


class Cost(NamedTuple):
    """Operations of training for each token, and parameters."""

    operations: float
    parameters: int

    def hours(self, tokens: float, gpus: int, utilisation: float) -> float:
        """Of training on so many tokens."""
        return tokens * self.operations / (gpus * PEAK * utilisation) / 3600

    def exchange(self, gpus: int) -> float:
        """Seconds in which GPUs exchange the gradients of a step, in a ring."""
        return 2 * 4 * self.parameters * (gpus - 1) / gpus / LINK


def stand_in(corpus: Corpus, place: Path) -> list[str]:
    """Overrides for texts of random tokens, as many as the corpus has to a text, and a tokenizer of as many as its."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [f"w{number}" for number in range(corpus.vocabulary - len(SPECIAL_TOKENS))]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped(tokenizer).save_pretrained(place / "tokenizer")
    chance = random.Random(0)
    texts = (" ".join(chance.choices(words, k=corpus.length)) for _ in range(40))
    (place / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    return [
        "data=text_files",
        f"data.dir={place}/texts.txt",
        f"data.length={corpus.length}",
        f"cache_dir={place}/cache",
    ]


def bart_base(place: Path) -> str:
    """The override for an untrained BART-base, in the tokens of a stand-in."""
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(place / "tokenizer")
    half = {"layers": 6, "ffn_dim": 3072, "attention_heads": 12}
    shape = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in half.items()}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = BartConfig(vocab_size=len(tokenizer), d_model=768, **shape, **ends)  # type: ignore[arg-type]
    BartForConditionalGeneration(config).save_pretrained(place / "bart")
    tokenizer.save_pretrained(place / "bart")
    return f"text_space.pretrained={place}/bart"


def cost(recipe: str, size: str, corpus: Corpus) -> Cost:
    """Of a recipe, whose latents, if it has any, are encoded in the step."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        own = stand_in(corpus, place)
        if recipe == "latent_flow":
            own += ["text_space=bart_base", bart_base(place), "text_space.cache=none"]
        else:
            own += ["tokenizer=pretrained", f"tokenizer.pretrained={place}/tokenizer"]
        rest = [f"data.batch_size={COUNTED}", "trainer=cpu", "preflight=off", f"run_dir={place}/run"]
        training = compose_training(configured(f"experiment={recipe}", *SIZES[size], *own, *rest))
        model, batch = training.model, next(iter(training.data.train_dataloader()))
        return Cost(counted(lambda: loss_of(model, batch).backward()) / batch["mask"].numel(), model.count_parameters())


def command(recipe: str, corpus: Corpus) -> str:
    """The line that trains the small size on all GPUs of a node."""
    tokens = f"tokenizer=pretrained tokenizer.pretrained={corpus.tokenizer}"
    space = "text_space=bart_base text_space.cache=none" if recipe == "latent_flow" else tokens
    texts = f"data={corpus.data} data.length={corpus.length} data.global_batch_size={TEXTS}"
    machine = f"trainer=ddp trainer.max_steps={STEPS} trainer.compile=true precision=bf16"
    return " ".join([f"python train.py experiment={recipe}", texts, space, *SIZES["small"], machine])


# ---- the page

BILLION = ["`experiment=`", "size", "corpus", "parameters", "GFLOP a token", "state", *(f"hours on {n}" for n in GPUS)]
BILL = ["`experiment=`", "corpus", "GPU-hours", f"hours on {GPUS[1]}", f"a step on {GPUS[1]}", "gradients exchanged"]


def render(costs: dict[Key, Cost], utilisation: float, whence: str) -> str:
    """Operations, bytes and hours, then the bill."""
    one, peak = costs[HELD, "small", "LM1B"], f"{PEAK / 1e12:.0f}·10¹²"
    budgets = " and ".join(f"{tokens_of(corpus) / 1e9:.0f} billion of {name}" for name, corpus in CORPORA.items())
    parts = [
        "# What training costs on GPUs",
        f"""Made by `python -m benchmarks.scaling`, which counts the operations of a training step, forward and back,
        on texts as long, out of as many tokens, as the corpus has. {whence}""",
        f"""An H200 has {peak} operations a second in bf16 and {MEMORY / 1e9:.0f} GB (NVIDIA's data sheet), so hours =
        tokens × operations a token ÷ (GPUs × {peak} × {utilisation:.2f}) ÷ 3,600. Of `experiment={HELD}` on LM1B a
        billion tokens take one GPU 10⁹ × {one.operations / 1e9:.2f}·10⁹ ÷ ({peak} × {utilisation:.2f}) ÷ 3,600 =
        {one.hours(1e9, 1, utilisation):.2f} hours.""",
        "## A billion tokens",
        table(BILLION, [line(key, found, utilisation) for key, found in costs.items()]),
        f"""State is what a training keeps for its parameters, {STATE} bytes for each: weights, gradients, two moments
        and averages in 32 bits; `trainer=fsdp` shares it between the GPUs. `experiment=latent_flow` has a frozen
        BART-base beside it, whose encoder works in the step: the latents of a billion tokens would take 1.5 TB of a
        disk, where the tokens take 2 GB. Self-conditioning evaluates a network once more for half of the texts, forward
        only; what `embedding_flow` reads beside x_t is a posterior over all tokens.""",
        "## The bill",
        f"""The field trains the small size for {STEPS:,} steps of {TEXTS} texts (Sahoo et al. 2024): {budgets}, padding
        included.""",
        table(BILL, [bill(key, found, utilisation) for key, found in costs.items() if key[1] == "small"]),
        f"""Hours are of computing alone. The gradients of a step go round in 32 bits, at {LINK / 1e9:.0f} GB/s for each
        GPU, while the backward pass goes on. Where that takes about as long as the step, GPUs wait: take fewer, or
        larger steps.""",
        "## The commands",
        *commands(),
    ]
    return "\n\n".join(part if "\n        " not in part else " ".join(part.split()) for part in parts) + "\n"


def line(key: Key, found: Cost, utilisation: float) -> list[str]:
    """What a billion tokens take."""
    one, many = (found.hours(1e9, gpus, utilisation) for gpus in GPUS)
    size, state = f"{found.parameters / 1e6:.0f} M", f"{STATE * found.parameters / 1e9:.1f} GB"
    return [*key, size, f"{found.operations / 1e9:.2f}", state, f"{one:.2f}", f"{many:.3f}"]


def bill(key: Key, found: Cost, utilisation: float) -> list[str]:
    """What the field's training takes."""
    recipe, _, corpus = key
    one, many = (found.hours(tokens_of(CORPORA[corpus]), gpus, utilisation) for gpus in GPUS)
    step, exchange = 3_600_000 * many / STEPS, 1000 * found.exchange(GPUS[1])
    return [recipe, corpus, f"{one:,.0f}", f"{many:.1f}", f"{step:.1f} ms", f"{exchange:.1f} ms"]


def tokens_of(corpus: Corpus) -> int:
    """Of the field's training."""
    return STEPS * TEXTS * corpus.length


def commands() -> Iterator[str]:
    """For each corpus, on the GPUs of a node."""
    for name, corpus in CORPORA.items():
        yield f"{name}, on all GPUs of a node; on several nodes as in [On a cluster](cluster.md#several-nodes):"
        yield "\n".join(["```bash", *(command(recipe, corpus) for recipe in RECIPES), "```"])
    yield f"The medium size is `{' '.join(SIZES['medium'])}`."


def main(argv: list[str]) -> None:
    _, chosen = arguments(argv, {"utilisation": ""})
    utilisation = float(chosen["utilisation"] or ASSUMED)
    whence = f"No GPU was at hand: a utilisation of {utilisation:.2f} is assumed, and not measured."
    if torch.cuda.is_available() and not chosen["utilisation"]:
        measured = "experiment=embedding_flow data=python_docs callbacks.collapse=null"
        own = [*SIZES["small"], "trainer=gpu", "precision=bf16", "trainer.compile=true"]
        utilisation = measure(measured, own)["utilisation"]
        whence = f"The utilisation of a {torch.cuda.get_device_name()} was measured on `experiment=embedding_flow`."
    keys = list(product(RECIPES, SIZES, CORPORA))
    for recipe, size, corpus in keys:
        if " ".join((recipe, size, corpus)) not in read_rows(ROWS):
            counted = cost(recipe, size, CORPORA[corpus])
            add_row(ROWS, {"name": " ".join((recipe, size, corpus)), **counted._asdict()})
    rows = read_rows(ROWS)
    costs = {key: Cost(rows[" ".join(key)]["operations"], rows[" ".join(key)]["parameters"]) for key in keys}
    PAGE.write_text(render(costs, utilisation, whence), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A trained model as an object, for notebooks and scripts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from diffusion_text.cache import default_cache
from diffusion_text.checkpoints import assemble, corpus_of, restored
from diffusion_text.conditions.named import ANY
from diffusion_text.data.tokens import token_ids
from diffusion_text.diffusion.bound import Mean, mean_per
from diffusion_text.diffusion.samplers import Sampler
from diffusion_text.errors import UserError
from diffusion_text.models.writing import Writer
from diffusion_text.runs import Run, find_checkpoint
from diffusion_text.shapes import Latents, Mask, Tokens
from diffusion_text.tasks.export import export
from diffusion_text.tasks.given import prompt
from diffusion_text.tasks.infill import Infill
from diffusion_text.tasks.nll import NLL, check_tells
from diffusion_text.tasks.session import Session
from diffusion_text.values import whole

Asked = str | Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """−log p in `nats` a token of each text, or a bound on it, and its `tokens`, `<s>` and `</s>` included; `kind`:
    exact or bound.
    """

    nats: list[float]
    tokens: list[int]
    kind: str

    @property
    def mean(self) -> Mean:
        """Over all tokens, with its standard error."""
        tokens = torch.tensor(self.tokens)
        return mean_per(torch.tensor(self.nats, dtype=torch.float64) * tokens, tokens)


class LoadedModel:
    """A trained model with its averaged weights. What is drawn follows from the seed, and is what `python sample.py`
    prints of that seed. `sampler`: how it is drawn, at first as in the run; another one may take its place.
    """

    def __init__(self, session: Session):
        self.session = session
        self.sampler: Sampler = session.sampler

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self.sampler).items())
        parts = self.model.describe() | {"sampler": f"{type(self.sampler).__name__}({settings})"}
        described = "".join(f"\n  {part}: {what}" for part, what in parts.items())
        return f"{self.session.run.directory.name}, step {self.session.step:,}{described}"

    @property
    def model(self) -> Writer:
        """The module itself."""
        return self.session.model

    def sample(
        self,
        num_samples: int = 5,
        condition: Asked | None = None,
        seed: int = 0,
        text: str | None = None,
        length: int | None = None,
        temperature: float = 0.0,
    ) -> list[str]:
        """Texts, which are what `condition` says and begin with `text`, of `length` tokens; `temperature`: of the
        rounding.
        """
        session = self.asked(num_samples, condition, seed=seed, text=text, length=length, temperature=temperature)
        return session.read(session.sample(None if text is None else prompt(session, text)))

    def infill(
        self, text: str, num_samples: int = 1, condition: Asked | None = None, seed: int = 0, blank: str | None = None
    ) -> list[str]:
        """Texts around the blanks of one, a token for each `_` that stands by itself, or for each `blank`."""
        session = self.asked(num_samples, condition, seed=seed, text=text)
        return session.read(Infill(blank).fill(session)[1])

    def score(self, texts: str | Sequence[str], seed: int = 0, draws: int = 8, t_0: float | None = None) -> Score:
        """How likely texts are, as `task=nll` has it."""
        check_tells(self.model)
        tokens, mask = self.tokens(texts)
        counts, nats = mask.sum(1).cpu(), NLL(draws, t_0).nats(self.asked(seed=seed), tokens, mask)["total"]
        return Score((nats / counts).tolist(), counts.tolist(), str(self.model.likelihood))

    @torch.no_grad()
    def encode(self, texts: str | Sequence[str]) -> tuple[Latents, Mask]:
        """x_0 of texts `(batch, positions, dim)`, and its mask."""
        tokens, mask = self.tokens(texts)
        space = self.model.text_space
        return space.encode(tokens, mask), space.latent_mask(mask)

    @torch.no_grad()
    def decode(self, x_0: Latents, mask: Mask | None = None) -> list[str]:
        """The texts that x_0 stands for; without a `mask` all its positions are real."""
        model, device = self.model, self.model.device
        mask = torch.ones(x_0.shape[:2], dtype=torch.bool) if mask is None else mask
        return model.text_space.to_text(model.reader.decode(x_0.to(device), mask.to(device)))

    def tokens(self, texts: str | Sequence[str]) -> tuple[Tokens, Mask]:
        """Token ids of texts as the corpus has them, and their mask; refuses texts that are longer than it had any."""
        ids = token_ids(self.model.text_space.tokenizer, [texts] if isinstance(texts, str) else texts, "texts=")
        if not ids:
            raise UserError("texts= has no text")
        for each in ids:
            self.session.check_room(each, "texts", self.session.room(self.session.corpus.length))
        return self.session.wrap(ids)

    def push_to_hub(self, name: str, private: bool | None = None) -> str:
        """Publish the export that this is, or one that is made of it, as `user/name` on the Hugging Face hub, with the
        token of `hf auth login`; returns the address.
        """
        run, api = self.session.run, HfApi()
        with tempfile.TemporaryDirectory() as place:
            directory = run.directory
            if not run.exported.is_file():
                directory = Path(place, run.directory.name)
                export(self.asked(), directory)
            api.create_repo(name, private=private, exist_ok=True)
            return str(
                api.upload_folder(repo_id=name, folder_path=directory, commit_message=f"Step {self.session.step}")
            )

    def asked(self, num_samples: int = 1, condition: Asked | None = None, **wanted: Any) -> Session:
        """The session in which this is wanted."""
        many = whole(num_samples, "num_samples", 1)
        named = {ANY: condition} if isinstance(condition, str) else dict(condition or {})
        return replace(self.session, sampler=self.sampler, num_samples=many, condition=named, **wanted)


def opened(run: str | Path) -> LoadedModel:
    """The model of a run, or of an export."""
    checkpoint = find_checkpoint(str(run), None, "outputs")
    model, config, step = restored(checkpoint)
    sampler, corpus = assemble(config, "sampler"), partial(corpus_of, config, default_cache())
    return LoadedModel(Session(model, sampler, Run.of_checkpoint(checkpoint), step, data=corpus, config=config))

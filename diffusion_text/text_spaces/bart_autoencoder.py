"""BART as an autoencoder: tokens to latents and back, through a variational bottleneck where there is one.

(1) q(z | h) = N(mean, std²): mean and log std² are linear in `compression` neighbouring hidden states h
(2) KL(q ‖ N(0, 1)) = ½·Σ (mean² + std² − 1 − log std²)                Kingma & Welling 2014, appendix B
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusion_text.errors import UserError
from diffusion_text.hub import load_pretrained
from diffusion_text.shapes import Latents, Mask, Tokens

if TYPE_CHECKING:
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerBase

Hidden = Float[Tensor, "batch positions hidden"]
BOTTLENECK_FILE = "bottleneck.safetensors"


class Posterior(NamedTuple):
    """What the encoder knows of a text's latent: equation (1); without a bottleneck, the latent itself."""

    mean: Latents
    log_variance: Latents | None

    def sample(self) -> Latents:
        if self.log_variance is None:
            return self.mean
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self, mask: Mask) -> Tensor:
        """Equation (2) in nats a latent, averaged over the real ones `mask` `(batch, length)`."""
        if self.log_variance is None:
            return self.mean.new_zeros(())
        nats = 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).sum(-1)
        return nats[mask].mean()


class Bottleneck(nn.Module):
    """`compression` hidden states of width `hidden` to one latent of width `dim`, and back."""

    def __init__(self, hidden: int, dim: int, compression: int = 1):
        super().__init__()
        self.hidden, self.dim, self.compression = hidden, dim, compression
        self.enter = nn.Linear(hidden * compression, 2 * dim)
        self.leave = nn.Linear(dim, hidden * compression)
        self.norm = nn.LayerNorm(hidden)
        nn.init.constant_(self.enter.bias[dim:], -4.0)  # little noise at first, so that reconstruction is learned

    def forward(self, h: Hidden, mask: Mask) -> Posterior:
        h = F.pad(h * mask.unsqueeze(-1), (0, 0, 0, -h.shape[1] % self.compression))
        grouped = h.unflatten(1, (-1, self.compression)).flatten(2)
        return Posterior(*self.enter(grouped).chunk(2, dim=-1))

    def expand(self, z: Latents) -> Hidden:
        """The hidden states that latents stand for."""
        return self.norm(self.leave(z).unflatten(-1, (self.compression, self.hidden)).flatten(1, 2))

    @classmethod
    def load(cls, file: Path, hidden: int) -> Bottleneck:
        """As it was written to a safetensors file."""
        bottleneck = cls(hidden, *bottleneck_shape(file, hidden))
        bottleneck.load_state_dict(load_file(file))
        return bottleneck


class BartAutoencoder(nn.Module):
    """BART and its tokenizer. Latents `(batch, positions, dim)` are the encoder's last hidden states, or narrower."""

    def __init__(
        self,
        bart: BartForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        bottleneck: Bottleneck | None = None,
    ):
        super().__init__()
        self.bart, self.tokenizer, self.bottleneck = bart, tokenizer, bottleneck
        bart.set_attn_implementation("sdpa")  # which takes the mask that `encode` gives
        self.dim = bottleneck.dim if bottleneck else bart.config.hidden_size
        self.compression = bottleneck.compression if bottleneck else 1
        self.max_length = bart.config.max_position_embeddings

    @classmethod
    def from_pretrained(cls, pretrained: str | Path) -> BartAutoencoder:
        """A local directory in the format of `save_pretrained`, with or without a bottleneck; or a BART on the hub."""
        from transformers import AutoTokenizer, BartForConditionalGeneration

        bart = _load(BartForConditionalGeneration, pretrained)
        file = Path(pretrained).expanduser() / BOTTLENECK_FILE
        bottleneck = Bottleneck.load(file, bart.config.hidden_size) if file.is_file() else None
        return cls(bart, _load(AutoTokenizer, pretrained), bottleneck)

    def save(self, directory: Path) -> None:
        """Write what `from_pretrained` reads."""
        self.bart.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        if self.bottleneck:
            save_file(self.bottleneck.state_dict(), directory / BOTTLENECK_FILE)

    def encode(self, tokens: Tokens, mask: Mask) -> Posterior:
        """What the encoder makes of texts, whose mask is `mask`."""
        pairs = mask[:, None, None].expand(-1, -1, mask.shape[1], -1)  # else transformers asks whether all are real
        hidden = self.bart.get_encoder()(input_ids=tokens, attention_mask=pairs).last_hidden_state
        return self.bottleneck(hidden, mask) if self.bottleneck else Posterior(hidden, None)

    def reconstruct(
        self, z: Latents, mask: Mask, tokens: Int[Tensor, "batch tokens"], token_mask: Bool[Tensor, "batch tokens"]
    ):
        """Cross-entropy in nats a token (`loss`) and `logits`, each token told from those before it and the latents."""
        return self.bart(**self._read(z, mask), labels=tokens.masked_fill(~token_mask, -100))

    def generate(
        self, z: Latents, mask: Mask, limit: int | None = None, logits_processor: list[Any] | None = None, **options
    ):
        """Greedy decoding of latents, of as many tokens as they stand for at most, or of the first `limit`; what
        `logits_processor` makes of the scores decides.
        """
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=min(z.shape[1] * self.compression, self.max_length, limit or self.max_length),
            num_beams=1,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            decoder_start_token_id=self.bart.config.decoder_start_token_id,
            return_dict_in_generate=True,
            do_sample=False,
            **options,
        )
        return self.bart.generate(  # type: ignore[misc]  # transformers 5 annotates self by a protocol that BART misses
            **self._read(z, mask), generation_config=config, logits_processor=logits_processor
        )

    def _read(self, z: Latents, mask: Mask) -> dict:
        """What BART's decoder attends to."""
        from transformers.modeling_outputs import BaseModelOutput

        hidden = self.bottleneck.expand(z) if self.bottleneck else z
        mask = mask.repeat_interleave(self.compression, dim=1)
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=hidden.to(self.bart.dtype)),
            "attention_mask": mask,
        }


def pretrained_shape(pretrained: str | Path) -> tuple[int, int]:
    """Width of the latents and most tokens of a pretrained autoencoder, without its weights."""
    from transformers import AutoConfig

    config: BartConfig = _load(AutoConfig, pretrained)
    if config.model_type != "bart":
        raise UserError(f"text_space.pretrained={pretrained} is a {config.model_type} model, not a BART")
    file = Path(pretrained).expanduser() / BOTTLENECK_FILE
    dim = bottleneck_shape(file, config.hidden_size)[0] if file.is_file() else config.hidden_size
    return dim, config.max_position_embeddings


def bottleneck_shape(file: Path, hidden: int) -> tuple[int, int]:
    """`dim` and `compression` of a stored bottleneck."""
    with safe_open(file, "pt") as stored:
        doubled, entering = stored.get_slice("enter.weight").get_shape()
    return doubled // 2, entering // hidden


def _load(cls, pretrained: str | Path):
    return load_pretrained(cls, pretrained, "text_space.pretrained", "config.json", "text_space=bart_mini")

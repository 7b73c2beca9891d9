"""The latent route's space: hidden states of a frozen BART encoder, standardised; BART's decoder reads them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion_text.errors import UserError
from diffusion_text.hub import prepare_hub
from diffusion_text.shapes import Latents, Mask, Tokens
from diffusion_text.text_spaces.base import Frozen, TextSpace, weights_digest

if TYPE_CHECKING:
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerBase


class BartSpace(TextSpace):
    """x_0 = (encoder's last hidden state − mean) / std, per channel (Lovelace et al. 2023 diffuse such latents).

    Mean, std and correlation are those of the training split's real tokens; they are buffers, so a checkpoint brings
    its own. BART itself is neither trained nor part of the checkpoint.
    """

    mean: Tensor
    std: Tensor
    correlation: Tensor

    def __init__(self, bart: BartForConditionalGeneration, tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        self.frozen, self.tokenizer = Frozen(bart), tokenizer
        self.dim, self.max_length = bart.config.hidden_size, bart.config.max_position_embeddings
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("std", torch.ones(self.dim))
        self.register_buffer("correlation", torch.eye(self.dim))

    @classmethod
    def from_pretrained(cls, pretrained: str | Path) -> BartSpace:
        """A local directory in the format of `save_pretrained`, or a model on the hub."""
        from transformers import AutoTokenizer, BartForConditionalGeneration

        bart = _load(BartForConditionalGeneration, pretrained)
        return cls(bart, _load(AutoTokenizer, pretrained))

    def save(self, directory: Path) -> None:
        """Write backbone and tokenizer in the format that `from_pretrained` reads."""
        self.frozen.module.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the backbone's weights."""
        return weights_digest(self.frozen.module.state_dict().items())

    def set_statistics(self, mean: Tensor, covariance: Tensor) -> None:
        """Standardise by the mean `(dim,)` and covariance `(dim, dim)` of raw latents from now on."""
        std = covariance.diagonal().sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.correlation.copy_(covariance / std / std[:, None])

    def encode_raw(self, tokens: Tokens, mask: Mask) -> Latents:
        """The encoder's last hidden state, as BART makes it."""
        with torch.no_grad():
            encoder = self.frozen.on(self.mean.device).get_encoder()
            hidden = encoder(input_ids=tokens.to(self.mean.device), attention_mask=mask.to(self.mean.device))
        return hidden.last_hidden_state

    def standardize(self, raw: Latents) -> Latents:
        """Raw latents to x_0."""
        return (raw - self.mean) / self.std

    def encode(self, tokens, mask):
        return self.standardize(self.encode_raw(tokens, mask))

    def decode(self, x_0, mask):
        """Greedy decoding, of as many tokens as x_0 has positions at most."""
        return self._generate(x_0, mask).sequences[:, 1:]

    def decode_with_confidence(self, x_0: Latents, mask: Mask) -> tuple[Tokens, Float[Tensor, "batch decoded"]]:
        """As `decode`, and the probability that the decoder gave to each token."""
        generated = self._generate(x_0, mask, output_logits=True)
        tokens = generated.sequences[:, 1:]
        probabilities = torch.stack(generated.logits, dim=1).softmax(-1)
        return tokens, probabilities.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    def _generate(self, x_0: Latents, mask: Mask, **options):
        from transformers import GenerationConfig
        from transformers.modeling_outputs import BaseModelOutput

        bart = self.frozen.on(x_0.device)
        config = GenerationConfig(
            max_new_tokens=x_0.shape[1],
            num_beams=1,
            do_sample=False,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            decoder_start_token_id=bart.config.decoder_start_token_id,
            return_dict_in_generate=True,
            **options,
        )
        hidden = (x_0 * self.std + self.mean).to(bart.dtype)
        return bart.generate(  # type: ignore[misc]  # transformers 5 annotates self by a protocol that BART misses
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            generation_config=config,
        )


def bart_config(pretrained: str | Path) -> BartConfig:
    """The architecture of a pretrained BART, without its weights."""
    from transformers import AutoConfig

    config = _load(AutoConfig, pretrained)
    if config.model_type != "bart":
        raise UserError(f"text_space.pretrained={pretrained} is a {config.model_type} model, not a BART")
    return config


def _load(cls, pretrained: str | Path):
    path = Path(pretrained)
    looks_local = path.is_absolute() or str(pretrained).startswith((".", "~")) or path.expanduser().exists()
    if looks_local and not (path.expanduser() / "config.json").is_file():
        raise UserError(f"text_space.pretrained={pretrained} is not a model directory: it has no config.json")
    online = looks_local or prepare_hub()
    try:
        return cls.from_pretrained(path.expanduser() if looks_local else str(pretrained))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if online else "the Hugging Face hub cannot be reached"
        raise UserError(
            f"{pretrained} is not to be had ({reason}): give a local copy with text_space.pretrained=DIR, "
            "or use the offline text_space=bart_mini"
        ) from error

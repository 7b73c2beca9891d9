"""Texts judged by a pretrained language model.

(1) perplexity   exp of the mean −ln P(token | those before it) over all texts, each from its second token on
(2) MAUVE        area under the divergence frontier of the last token's features          Pillutla et al. 2021
"""

import numpy as np
import torch
from jaxtyping import Float
from torchmetrics.text import Perplexity

from diffusion_text.errors import UserError
from diffusion_text.hub import load_pretrained

Features = Float[np.ndarray, "texts width"]
IGNORED = -100


class LanguageModel:
    """A causal language model from the hub, or from a local directory in the same format; raises UserError if there is
    none.
    """

    def __init__(self, pretrained: str):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        offline = "task.language_model=null"
        setting = "task.language_model"
        self.model = load_pretrained(AutoModelForCausalLM, pretrained, setting, "config.json", offline).eval()
        self.tokenizer = load_pretrained(AutoTokenizer, pretrained, setting, "tokenizer_config.json", offline)

    @torch.no_grad()
    def judge(self, texts: list[str]) -> tuple[float, Features]:
        """Equation (1), and the last hidden state of each text's last token; a text needs at least one token."""
        perplexity = Perplexity(ignore_index=IGNORED)
        features = []
        for text in texts:
            tokens = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=1024).input_ids
            output = self.model(tokens, output_hidden_states=True)
            perplexity.update(output.logits[:, :-1].float(), tokens[:, 1:])
            features.append(output.hidden_states[-1][0, -1].float().numpy())
        return float(perplexity.compute()), np.stack(features)


def mauve(samples: Features, real: Features) -> float:
    """Equation (2), in [0, 1]; raises UserError where the library is not installed."""
    try:
        from mauve import compute_mauve
    except ImportError as error:
        raise UserError('MAUVE needs mauve-text: pip install -e ".[mauve]"') from error
    return float(compute_mauve(p_features=samples, q_features=real, verbose=False).mauve)

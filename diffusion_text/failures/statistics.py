"""Statistics that are not stored with the model."""

import logging

from diffusion_text.models.trained_spaces import BartMini
from diffusion_text.text_spaces.bart import BartSpace
from diffusion_text.values import LONGEST, whole

log = logging.getLogger(__name__)


class StatisticsForgotten(BartMini):
    """A bart_mini whose latents' mean and standard deviation are recomputed from `texts` texts when x_0 is decoded."""

    def __init__(self, texts: int, **settings):
        super().__init__(**settings)
        self.texts = whole(texts, "text_space.texts", 1, LONGEST)

    def build(self, data):
        space = ForgetfulSpace(super().build(data).frozen.module)
        data.prepare(space.tokenizer)
        batch = data.collate([data.splits["validation"][i] for i in range(self.texts)])
        space.recompute(batch["tokens"], batch["mask"])
        return space


class ForgetfulSpace(BartSpace):
    """Its mean and standard deviation are no part of a checkpoint."""

    def __init__(self, autoencoder):
        super().__init__(autoencoder)
        for name in ("mean", "std"):
            self.register_buffer(name, getattr(self, name), persistent=False)

    def recompute(self, tokens, mask):
        """Take the statistics of a few texts for those of the training split."""
        latents = self.encode_raw(tokens, mask)[mask]
        self.mean_then, self.std_then = latents.mean(0), latents.std(0)

    def decode(self, x_0, mask, limit=None):
        should = super().decode(x_0, mask, limit)
        wrong = self.standardize(x_0 * self.std_then.to(x_0) + self.mean_then.to(x_0))
        decoded = super().decode(wrong, mask, limit)
        shared = min(should.shape[1], decoded.shape[1])
        changed = float((should[:, :shared] != decoded[:, :shared]).float().mean())
        off = float((self.std_then.to(x_0) / self.std - 1).abs().mean())
        log.info(
            "Recomputed standard deviations are off by %.0f %%: %.0f %% of the tokens change", 100 * off, 100 * changed
        )
        return decoded

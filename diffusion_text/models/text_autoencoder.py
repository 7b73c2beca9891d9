"""Pretraining of a text autoencoder: BART reconstructs texts of which some tokens were masked (Lewis et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

if TYPE_CHECKING:
    from transformers import BartForConditionalGeneration


class TextAutoencoder(LightningModule):
    """Trains `bart` with AdamW under a one-cycle learning rate; logs loss and token accuracy."""

    def __init__(
        self,
        bart: BartForConditionalGeneration,
        mask_token_id: int,
        mask_probability: float,
        learning_rate: float,
        num_steps: int,
    ):
        super().__init__()
        self.bart = bart
        self.mask_token_id, self.mask_probability = mask_token_id, mask_probability
        self.learning_rate, self.num_steps = learning_rate, num_steps
        pad = bart.config.pad_token_id
        self.accuracy = MulticlassAccuracy(bart.config.vocab_size, average="micro", ignore_index=pad)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        tokens, mask = batch["tokens"], batch["mask"]
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.mask_probability
        output = self.bart(
            input_ids=tokens.masked_fill(dropped & mask, self.mask_token_id),
            attention_mask=mask,
            labels=tokens.masked_fill(~mask, -100),
        )
        self.log("loss", output.loss, prog_bar=True)
        if batch_idx % 20 == 0:
            self.log("accuracy", self.accuracy(output.logits.argmax(-1), tokens), prog_bar=True)
        return output.loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

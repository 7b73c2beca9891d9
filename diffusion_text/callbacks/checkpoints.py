"""Checkpoints that belong to a run directory, wherever it lies."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from diffusion_text.models.base import NotFiniteError


class RunCheckpoint(ModelCheckpoint):
    """Lightning's, except that a run that was moved still knows its best score, else a worse one would replace it, and
    that a training which came to numbers that are none leaves the checkpoint before that.
    """

    def on_exception(self, trainer, pl_module, exception):
        if not isinstance(exception, NotFiniteError):
            super().on_exception(trainer, pl_module, exception)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or ".") / Path(path).name) if path else path

        paths = ("best_model_path", "last_model_path", "kth_best_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": scores, "dirpath": self.dirpath})

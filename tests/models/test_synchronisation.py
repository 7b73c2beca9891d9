"""A step never asks what a number is that the device has computed: on a GPU the host would wait for it."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from diffusion_text.callbacks.ema import WarmEMA
from diffusion_text.composition import compose_training

READ = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal", "bincount"}
COPIED = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu}


class Computed(TorchDispatchMode):
    """Follows what is computed from some tensors, and notes where it is read."""

    def __init__(self, tensors):
        super().__init__()
        self.computed, self.read = WeakIdKeyDictionary(), []
        for tensor in tensors:
            self.computed[tensor] = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        made = function(*args, **(kwargs or {}))
        if any(tensor in self.computed for tensor in given):
            name = function.__name__.partition(".")[0]
            picked = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in given[1:])
            if name in READ or picked:
                self.read.append(name)
            for leaf in tree_leaves(made):
                if isinstance(leaf, torch.Tensor):
                    self.computed[leaf] = True
        return made


class Copied(TorchFunctionMode):
    """Notes what is copied to the host of what was computed."""

    def __init__(self, followed):
        super().__init__()
        self.followed = followed

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in COPIED and args[0] in self.followed.computed:
            self.followed.read.append(function.__name__)
        return function(*args, **(kwargs or {}))


def read_in_a_step(training):
    """What is read of the batch's, the weights' and their descendants' numbers."""
    model, batch = training.model, next(iter(training.data.train_dataloader()))
    model.trainer = training.trainer
    training.trainer.strategy.connect(model)
    optimizer = model.optimizer(model.named_parameters())
    ema = WarmEMA(model, 0.9)
    ema.update_parameters(model)
    moved = training.data.on_before_batch_transfer(batch, 0)
    followed = Computed([*ema.parameters(), *ema.buffers(), *model.parameters(), *model.buffers(), *batch.values()])
    with followed, Copied(followed):
        model.training_step(moved, 0).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update_parameters(model)
    return followed.read


@pytest.mark.parametrize(
    "recipe",
    [
        ["model=textunet"],
        ["model=textunet", "text_space.cache=none"],
        ["model=latent_transformer", "route.self_conditioning=0.5", "prediction=x0", "route.reads=0.5"],
        ["embedding", "experiment=embedding_flow"],
        ["embedding", "experiment=masked_diffusion"],
        ["embedding", "experiment=autoregressive"],
        ["embedding", "experiment=embedding_flow", "condition=garbled"],
        ["embedding", "experiment=masked_diffusion", "condition=garbled"],
        ["embedding", "experiment=embedding_flow", "condition=attributes"],
    ],
)
def test_no_step_reads_what_it_computes(composed, local, settings, tmp_path, recipe):
    corpus = ["data=e2e", f"{local[1]}-e2e", *local[2:]] if "condition=attributes" in recipe else local
    on_tokens = [
        "tokenizer=characters", "text_space.dim=16", "model.width=16", "model.depth=1", "model.heads=2",
        f"run_dir={tmp_path}/run", *corpus, "trainer=cpu",
    ]  # fmt: skip
    overrides = [*recipe[1:], *on_tokens] if recipe[0] == "embedding" else [*recipe, *settings]
    assert read_in_a_step(compose_training(composed(*overrides))) == []


def test_no_step_of_a_student_reads_what_it_computes(composed, local, lm_checkpoint, tmp_path):
    asked = ["experiment=distil", f"run={lm_checkpoint.parents[1]}", local[-1], f"run_dir={tmp_path}", "trainer=cpu"]
    assert read_in_a_step(compose_training(composed(*asked))) == []


def test_what_is_read_is_found():
    weights = torch.ones(3)
    followed = Computed([weights])
    with followed, Copied(followed):
        float(weights.sum())
        weights[weights > 0].sum()
        (weights * 2).tolist()
        torch.rand(3).tolist()
    assert followed.read == ["_local_scalar_dense", "index", "tolist"]

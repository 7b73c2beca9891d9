"""Weights in shards: each process keeps its share of every weight, gradient and moment (FSDP2; Zhao et al. 2023).

A step gathers the weights of each block once, in its first forward pass, and keeps them until its backward pass is
over: processes may go through them unequally often, as with self-conditioning. States are always of whole tensors:
a checkpoint is what one process would write, and any number of processes can go on from it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from diffusion_text.errors import UserError
from diffusion_text.models.optimisation import BLOCKS

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Module = TypeVar("Module", bound=nn.Module)
FORWARD = ("training_step", "validation_step")  # what runs the network, beside `forward`


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, over all processes; checkpoints come and go as with any other strategy."""

    lightning_restore_optimizer = ParallelStrategy.lightning_restore_optimizer
    lightning_module_state_dict = ParallelStrategy.lightning_module_state_dict
    load_model_state_dict = ParallelStrategy.load_model_state_dict
    optimizer_state = ParallelStrategy.optimizer_state
    load_optimizer_state_dict = ParallelStrategy.load_optimizer_state_dict
    load_checkpoint = ParallelStrategy.load_checkpoint

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup_optimizers(self, trainer: Any) -> None:
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            optimizer.register_state_dict_post_hook(gather_moments)
            optimizer.register_load_state_dict_pre_hook(share_moments)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Leave this process its share of a model's weights, which are gathered block by block; its states stay whole."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise UserError(f"{name} is a single number, which trainer=fsdp cannot shard: use trainer=ddp")
    processes = mesh["data_parallel"]
    lists = (part for name, part in model.named_modules() if name.rpartition(".")[2] in BLOCKS)
    for block in chain.from_iterable(part for part in lists if isinstance(part, nn.ModuleList)):
        fully_shard(block, mesh=processes, reshard_after_forward=False)
    fully_shard(model, mesh=processes, reshard_after_forward=False)
    for part in parts(model):
        part.set_unshard_in_backward(False)  # or processes would ask unequally often, ahead of it
    for name in FORWARD:
        register_fsdp_forward_method(model, name)
    model.register_state_dict_post_hook(gather_weights)
    model.register_load_state_dict_pre_hook(share_weights)


def parts(model: nn.Module) -> list[FSDPModule]:
    """Those that are gathered one by one; none of a model that is not sharded."""
    return [part for part in model.modules() if isinstance(part, FSDPModule)]


def unshard(model: nn.Module) -> None:
    """Have all weights here, until they are shared again: whatever reads them then asks no other process for them."""
    for part in parts(model):
        part.unshard()


def reshard(model: nn.Module) -> None:
    """Have only this process's share of them."""
    for part in parts(model):
        part.reshard()


@contextmanager
def all_weights(model: nn.Module) -> Iterator[None]:
    """Inside, all weights are here."""
    unshard(model)
    try:
        yield
    finally:
        reshard(model)


def hollow(model: Module) -> Module:
    """A model like this one, before it is sharded, whose weights are yet to be loaded and take no memory until then."""
    weights = {
        id(weight): nn.Parameter(torch.empty_like(weight), weight.requires_grad) for weight in model.parameters()
    }
    return copy.deepcopy(model, weights)


# ---- single tensors


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this process has of each."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def gathered(tensor: Any) -> Any:
    """All of a tensor that may be shared; all processes ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared(tensor: Any, like: Tensor) -> Any:
    """This process's share of a tensor, if it is of one that is shared."""
    if not isinstance(like, DTensor) or not isinstance(tensor, Tensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


# ---- states, by the hooks of modules and optimizers


def kept(tensor: Any) -> Any:
    """All of a tensor that is shared, where there is room for all tensors."""
    return gathered(tensor).cpu() if isinstance(tensor, DTensor) else tensor


def gather_weights(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    state.update({name: kept(weight) for name, weight in state.items() if name.startswith(prefix)})


def share_weights(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, weight in module.named_parameters(prefix.rstrip("."), remove_duplicate=False):
        if name in state:
            state[name] = shared(state[name], weight)


def gather_moments(optimizer: Optimizer, state: dict[str, Any]) -> None:
    moments = state["state"]
    state["state"] = {n: {name: kept(value) for name, value in own.items()} for n, own in moments.items()}


def share_moments(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    weights = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    numbers = chain.from_iterable(group["params"] for group in state["param_groups"])
    moments = state["state"]
    pairs = [(number, weight) for number, weight in zip(numbers, weights, strict=True) if number in moments]
    return state | {"state": {n: {name: shared(v, weight) for name, v in moments[n].items()} for n, weight in pairs}}

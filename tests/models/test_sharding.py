"""Processes that share a network's weights train it as one does that has them all; states are of whole tensors."""

import forked
import torch
from torch import nn

from diffusion_text.models.sharding import all_weights, gathered, hollow, local, parts

SCRIPT = """
import copy

import gloo
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.testing import assert_close

from diffusion_text.callbacks.ema import WarmEMA
from diffusion_text.errors import UserError
from diffusion_text.models.optimisation import Muon
from diffusion_text.models.sharding import all_weights, gather_moments, gathered, local, parts, shard, share_moments

RANK = gloo.connect()
MESH = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
TEXTS = torch.randint(7, (4, 5), generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, x):
        return x + self.leave(self.enter(x).relu())


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.blocks = nn.Embedding(7, 6), nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(6, 7)
        self.head.weight = self.table.weight

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def training_step(self, texts, twice=False):
        x = self.table(texts)
        if twice:
            with torch.no_grad():
                self.through(x)
        return nn.functional.cross_entropy(self.head(self.through(x)).flatten(0, 1), texts.roll(1, 1).flatten())

    validation_step = training_step


def trained(network, optimizer, texts, steps, twice=False):
    losses = []
    for _ in range(steps):
        loss = network.training_step(texts, twice)
        loss.backward()
        norm = get_total_norm([parameter.grad for parameter in network.parameters()])
        clip_grads_with_norm_(network.parameters(), 0.1, norm)
        losses += [loss.detach(), gathered(norm)]
        optimizer.step()
        optimizer.zero_grad()
    return torch.stack(losses)


def sharded(make):
    network = Network()
    shard(network, MESH)
    optimizer = make(network.named_parameters())
    optimizer.register_state_dict_post_hook(gather_moments)
    optimizer.register_load_state_dict_pre_hook(share_moments)
    return network, optimizer


for make, close in ((torch.optim.AdamW, {"rtol": 1e-5, "atol": 1e-6}), (Muon, {"rtol": 0, "atol": 2e-4})):
    alone = Network()
    of_one = make(alone.named_parameters())
    network, optimizer = sharded(make)
    assert len(parts(network)) == 3
    here, all_of_it = (sum(part.numel() for part in local(each.parameters())) for each in (network, alone))
    assert 0 < here < 0.6 * all_of_it
    expected = trained(alone, of_one, TEXTS, 3)
    found = trained(network, optimizer, TEXTS.chunk(2)[RANK], 3, twice=RANK == 0)  # one goes through the blocks twice
    torch.distributed.all_reduce(found)
    assert_close(found / 2, expected, **close)
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())

    weights, moments = network.state_dict(), optimizer.state_dict()
    assert list(weights) == list(alone.state_dict())
    assert not any(isinstance(weight, DTensor) for weight in weights.values())
    assert_close(dict(weights), dict(alone.state_dict()), **close)
    assert_close(moments["state"], of_one.state_dict()["state"], **close)

    again, resumed = sharded(make)
    again.load_state_dict(weights)
    resumed.load_state_dict(copy.deepcopy(moments))
    more = (trained(*pair, TEXTS.chunk(2)[RANK], 2) for pair in ((again, resumed), (network, optimizer)))
    assert_close(*more, rtol=0, atol=0)

    kept = network.state_dict()
    with all_weights(network), torch.no_grad():
        if RANK == 0:  # asks no other process
            alone.load_state_dict(kept)
            assert_close(network.validation_step(TEXTS), alone.validation_step(TEXTS))
        assert {parameter.shape for parameter in network.parameters()} == {p.shape for p in alone.parameters()}
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())

ema = WarmEMA(Network(), 0.5)
shard(ema.module, MESH)
ema.n_averaged.fill_(2)
before, now = ([gathered(each.detach()) for each in those.parameters()] for those in (ema.module, network))
ema.update_parameters(network)
for moved, start, end in zip(ema.module.parameters(), before, now, strict=True):
    assert_close(gathered(moved.detach()), start + (end - start) * 0.75)  # the decay is (1 + 2) / (10 + 2)

network = Network()
network.blocks[0].scale = nn.Parameter(torch.ones(()))
try:
    shard(network, MESH)
    raise AssertionError("a single number has no shares")
except UserError as error:
    assert str(error) == "blocks.0.scale is a single number, which trainer=fsdp cannot shard: use trainer=ddp"
"""


def test_two_processes_train_what_they_share_as_one_trains_it_whole(tmp_path):
    forked.come_through(SCRIPT, tmp_path)


def test_what_is_not_shared_stays_as_it_is():
    network = nn.Linear(2, 3)
    assert parts(network) == []
    with all_weights(network):
        assert gathered(network.weight) is network.weight
        assert local([network.weight])[0] is network.weight


def test_a_hollow_model_takes_the_weights_of_another():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[0].bias.requires_grad_(False)
    copy = hollow(model)
    copy.load_state_dict(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor)
        assert copy.state_dict()[name].data_ptr() != tensor.data_ptr()
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_hollow_model_shares_what_the_model_shares():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    copy = hollow(model)
    assert copy[1].weight is copy[0].weight
    assert copy[0].weight is not model[0].weight

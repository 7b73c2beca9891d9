import pytest
import torch

from diffusion_text.errors import UserError
from diffusion_text.models.resuming import check_moments, check_weights


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
def test_weights_of_another_model_are_refused(part):
    own = {"a": torch.zeros(2)}
    check_weights({part: {"a": torch.ones(2)}}, own)
    with pytest.raises(UserError, match=r"^the checkpoint does not fit the model: a has shape \(3,\), not \(2,\)$"):
        check_weights({part: {"a": torch.ones(3)}}, own)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.tensor([0.0, torch.nan])], ids=["shape", "not finite"])
def test_moments_of_another_model_are_refused(wrong):
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    check_moments(optimizer)
    optimizer.state[weight]["exp_avg_sq"] = wrong
    with pytest.raises(UserError, match=r"^the checkpoint does not fit the model: the optimizer's exp_avg_sq is not"):
        check_moments(optimizer)

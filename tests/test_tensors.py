import io
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffusion_text.errors import UserError
from diffusion_text.storage import DamagedError, write_sealed
from diffusion_text.tensors import misfit, read_tensors, write_tensors

CONTENT = {
    "weights": OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.ones(2, dtype=torch.bfloat16)),
    "plain": [1, 2.5, "three", None, True, (4,)],
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "last.ckpt"


def test_tensors_and_plain_values_come_back(file):
    write_tensors(file, CONTENT)
    content = read_tensors(file)
    assert content["plain"] == CONTENT["plain"]
    assert_close(content["weights"], CONTENT["weights"], rtol=0, atol=0)


def test_dictionaries_of_other_kinds_become_plain(file):
    write_tensors(file, {"state": defaultdict(dict, {0: {"exp_avg": torch.nn.Parameter(torch.ones(2))}})})
    assert type(read_tensors(file)["state"]) is dict


@pytest.mark.parametrize("value", [np.float64(1), Path("a"), {1}, lambda: None])
def test_what_could_not_be_read_back_is_not_written(file, value):
    with pytest.raises(UserError, match=r"^checkpoint\.a\.0 is a \w+: a checkpoint holds tensors and plain values"):
        write_tensors(file, {"a": [value]})
    assert not file.exists()


def test_torch_reads_it_too(file):
    write_tensors(file, CONTENT)
    assert_close(torch.load(file, weights_only=True)["weights"], CONTENT["weights"])


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (Path.touch, (self.victim,))


class Hungry:
    """Takes memory when it is unpickled."""

    def __reduce__(self):
        return (bytearray, (10**12,))


def compressed(stream):
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(10_000)}, whole)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as smaller:
        for name in archive.namelist():
            smaller.writestr(name, archive.read(name))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (partial(torch.save, {"a": Hungry()}), "it calls"),
        (partial(torch.save, {"a": torch.zeros(1).expand(10**12)}), "has 4 bytes"),
        (partial(torch.save, torch.zeros(2)), "it holds no names"),
        (compressed, "it is compressed"),
        (lambda stream: stream.write(b"text"), "not a zip file"),
        (lambda stream: stream.write(pickle.dumps({"a": 1})), "not a zip file"),
    ],
    ids=["hungry", "expanded", "tensor", "compressed", "text", "pickle"],
)
def test_a_whole_file_of_something_else_is_refused(file, write, says):
    sink = io.BytesIO()
    write(sink)
    write_sealed(file, lambda stream: stream.write(sink.getvalue()))
    with pytest.raises(DamagedError, match=rf"^[^\n]*is not a checkpoint of this project: [^\n]*{says}[^\n]*$"):
        read_tensors(file)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_file_is_not_run(file, tmp_path, protocol):
    content = {"a": Bomb(tmp_path / "victim")}
    write_sealed(file, partial(torch.save, content, pickle_protocol=protocol))
    with pytest.raises(DamagedError, match="it calls"):
        read_tensors(file)
    assert not (tmp_path / "victim").exists()


OWN = {"weight": torch.zeros(2, 3), "losses": torch.full((2,), torch.nan)}


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (OWN, None),
        (OWN | {"losses": torch.zeros(2)}, None),
        ({"weight": OWN["weight"]}, "losses is missing"),
        (OWN | {"more": torch.zeros(1)}, "more is unknown"),
        (OWN | {"weight": torch.zeros(3, 2)}, r"weight has shape (3, 2), not (2, 3)"),
        (OWN | {"weight": torch.zeros(2, 3).half()}, "weight has dtype torch.float16, not torch.float32"),
        (OWN | {"weight": torch.full((2, 3), torch.inf)}, "weight is not finite"),
    ],
)
def test_how_weights_do_not_fit(stored, says):
    assert misfit(stored, OWN) == says

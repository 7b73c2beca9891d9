import json
import math
from pathlib import Path

import forked
import pytest

from diffusion_text.data.base import TextDataModule
from diffusion_text.values import (
    even,
    flag,
    instance,
    listed,
    number,
    one_of,
    or_null,
    seed_number,
    share,
    whole,
    words,
)

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "values.py"
NO_NUMBERS = [math.nan, math.inf, -math.inf, True, None, "3", [3], {}, 10**400, 1e300]


# ---- what each check takes, and what it says of the rest


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (whole, 3), (number, 3), (number, -2.5), (share, 0), (share, 1.0), (seed_number, 2**32 - 1), (flag, False),
        (words, "a b"), (even, 2),
    ],
)  # fmt: skip
def test_what_is_right_comes_back_as_it_is(check, value):
    bounds = {"most": 8} if check is even else {}
    back = check(value, "x", **bounds)
    assert (back, type(back)) == (value, type(value))


def test_a_whole_number_may_be_written_with_an_exponent():
    assert whole(1e3, "trainer.max_steps") == 1000
    assert isinstance(whole(1e3, "trainer.max_steps"), int)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: str(value)[:10])
@pytest.mark.parametrize("check", [whole, number, share, seed_number])
def test_what_is_no_number_is_refused(check, value):
    with pytest.raises(ValueError, match=r"^group\.name=\S+ is not a [^\n]+$"):
        check(value, "group.name")


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (lambda: whole(0, "sampler.num_steps", 1), "sampler.num_steps=0 is not a whole number of at least 1"),
        (lambda: whole(2.5, "model.depth", 1, 1000), "model.depth=2.5 is not a whole number of at least 1"),
        (lambda: whole(10**9, "model.depth", 1, 1000), "model.depth=1000000000 is not a whole number of at most 1,000"),
        (lambda: even(3, "model.time_dim", 8), "model.time_dim=3 is not an even number"),
        (lambda: number(0, "loss.delta", above=0), "loss.delta=0 is not a finite number above 0"),
        (lambda: number(1, "s", least=0, below=1), "s=1 is not a finite number of at least 0 and below 1"),
        (lambda: share(1.5, "sampler.snap"), "sampler.snap=1.5 is not a share between 0 and 1"),
        (lambda: seed_number(2**32, "seed"), "seed=4294967296 is not a whole number of at most 4,294,967,295"),
        (lambda: one_of("tme", "x", ["time", "angle"]), "x=tme is none of time, angle, did you mean time?"),
        (lambda: one_of(True, "x", ["warn", "stop"]), "x=true is none of warn, stop"),
        (lambda: flag(1, "x"), "x=1 is neither true nor false"),
        (lambda: words("", "x"), "x= is not a text"),
        (lambda: listed(3, "x", whole), "x=3 is not a list"),
        (lambda: listed("ab", "x", words), "x=ab is not a list"),
        (lambda: listed([], "x", whole, fewest=1), "x=[] is not a list of one at least"),
        (lambda: listed([1, None], "x", whole), "x=null is not a whole number of at least 0"),
        (lambda: or_null(number, 0, "x", above=0), "x=0 is not a finite number above 0, nor null"),
        (lambda: instance({"a": [1]}, "data", TextDataModule), "data={a:[1]} is not a TextDataModule"),
        (lambda: words([f"line\n{'x' * 200}"], "x"), f"x=[line {'x' * 74} is not a text"),
    ],
)
def test_the_line_names_the_setting_and_what_it_should_be(refused, says):
    with pytest.raises(ValueError) as told:  # noqa: PT011
        refused()
    assert str(told.value) == says


def test_null_is_right_where_it_may_stand():
    assert or_null(number, None, "sampler.clip", above=0) is None
    assert or_null(number, 8.0, "sampler.clip", above=0) == 8.0


# ---- every setting of conf/, with drawn values


def test_no_drawn_values_end_in_a_traceback_or_never(tmp_path):
    """In a process of its own, in which nothing but the classes themselves checks their arguments."""
    rows = tmp_path / "rows.jsonl"
    ended = forked.call(BENCHMARK, "sets=25", f"out={rows}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes = [json.loads(line)["outcome"] for line in rows.read_text(encoding="utf-8").splitlines()]
    assert (len(outcomes), {*outcomes}) == (25, {"built", "refused"})

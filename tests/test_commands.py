import pytest

from diffusion_text.commands import arguments
from diffusion_text.errors import UserError

DEFAULTS = {"project": "texts", "entity": None, "dry_run": False, "last": 3, "share": 0.5}


def test_what_is_not_given_is_the_default():
    assert arguments([], DEFAULTS) == ([], DEFAULTS)


def test_a_value_has_the_type_of_its_default():
    given = ["project=a=b", "entity=me", "dry_run=True", "last=10", "share=1"]
    _, values = arguments(given, DEFAULTS)
    assert values == {"project": "a=b", "entity": "me", "dry_run": True, "last": 10, "share": 1.0}
    assert [type(value) for value in values.values()] == [str, str, bool, int, float]


def test_what_is_no_name_and_value_is_positional_and_keeps_its_order():
    given = ["outputs/day/0-lr=0.1", "dry_run=true", "./seed=3", "b"]
    positionals, values = arguments(given, DEFAULTS)
    assert positionals == ["outputs/day/0-lr=0.1", "./seed=3", "b"]
    assert values == DEFAULTS | {"dry_run": True}


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("projet=x", "projet: there is no such argument, did you mean project?; there are project, entity, dry_run, "),
        ("q=x", "q: there is no such argument; there are project, "),
        ("--dry-run", "--dry-run: there is no such option; arguments are NAME=VALUE"),
        ("dry_run=yes", "dry_run=yes is neither true nor false"),
        ("last=1.5", "last=1.5 is not a whole number"),
        ("share=half", "share=half is not a number"),
    ],
)
def test_a_mistake_is_told_in_one_line(argument, says):
    with pytest.raises(UserError) as told:
        arguments([argument], DEFAULTS)
    assert str(told.value).startswith(says)
    assert "\n" not in str(told.value)


def test_the_defaults_stay_what_they_are():
    before = dict(DEFAULTS)
    arguments(["project=x"], DEFAULTS)
    assert before == DEFAULTS

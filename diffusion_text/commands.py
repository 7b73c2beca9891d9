"""What commands have in common, with Hydra or without: arguments, and a user's mistake in one line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusion_text.errors import UserError


def command(main: Callable[[list[str]], None], usage: str) -> None:
    """Call `main` with the command line's arguments, or print how it is used."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        return
    try:
        main(arguments)
    except UserError as error:
        fail(str(error))


def fail(message: str) -> None:
    """End with one line and exit code 2."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)


def arguments(argv: list[str], defaults: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Positional arguments, and a value for each name in `defaults`: NAME=VALUE's, in its default's type, or that.

    A path may have a `=` in it: what stands before the first is a name only where it could be one.
    """
    positionals, values = [], dict(defaults)
    for argument in argv:
        name, equals, value = argument.partition("=")
        if equals and name.isidentifier():
            if name not in defaults:
                there_are = f"there are {', '.join(defaults)}"
                raise UserError(f"{name}: there is no such argument{nearest(name, [*defaults])}; {there_are}")
            values[name] = converted(name, value, defaults[name])
        elif argument.startswith("-"):
            raise UserError(f"{argument}: there is no such option; arguments are NAME=VALUE, and --help explains them")
        else:
            positionals.append(argument)
    return positionals, values


def converted(name: str, value: str, default: Any) -> Any:
    """A value in the type of its default; text where that is None."""
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise UserError(f"{name}={value} is neither true nor false")
        return value.lower() == "true"
    if isinstance(default, (int, float)):
        try:
            return type(default)(value)
        except ValueError as error:
            raise UserError(f"{name}={value} is not {'a whole ' if type(default) is int else 'a '}number") from error
    return value


def nearest(name: str, names: list[str]) -> str:
    """', did you mean X?' where one name is close."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""

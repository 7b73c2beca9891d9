"""Docstrings as the API pages show them: a paragraph of numbered equations, or of indented lines, keeps its lines."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import griffe

PARAGRAPHS = re.compile(r"\n[ \t]*\n")
SET_OUT = re.compile(r"^(\(\d\)|    )|\n    ")  # begins with (1), or has an indented line


class KeepLines(griffe.Extension):
    """Fences what is set out by hand, which Markdown would run together."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            paragraphs = PARAGRAPHS.split(obj.docstring.value)
            obj.docstring.value = "\n\n".join(fenced(p) if SET_OUT.search(p) else p for p in paragraphs)


def fenced(paragraph: str) -> str:
    return f"```text\n{dedent(paragraph).rstrip()}\n```"

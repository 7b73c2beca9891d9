"""The embedded default corpus: the prose of Python's own language reference."""

import re

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.reading import split_by_position

NOT_PROSE = re.compile(r"::=|>>>|^\s*[|+]", re.MULTILINE)  # grammars, sessions, tables


class PythonDocs(TextDataModule):
    """`pydoc_data.topics`, which every CPython ships: about 270,000 characters of English prose, offline.

    Topics in alphabetical order; code, grammars, tables, headings and paragraphs that an earlier topic already had
    are left out, so no text of one split appears in another. Split 90 / 5 / 5 % by contiguous position.
    The text differs a little between Python versions.
    """

    licence = "Python Software Foundation License 2"

    def lines(self, split):
        return split_by_position(prose, split)


def prose():
    """Each paragraph as one line, followed by a blank one."""
    from pydoc_data.topics import topics

    seen = set()
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            paragraph = " ".join(block.split())
            letters = sum(character.isalpha() or character == " " for character in paragraph)
            is_prose = len(paragraph.split()) >= 6 and letters > 0.8 * len(paragraph) and not NOT_PROSE.search(block)
            if is_prose and paragraph not in seen:
                seen.add(paragraph)
                yield paragraph + "\n"
                yield "\n"

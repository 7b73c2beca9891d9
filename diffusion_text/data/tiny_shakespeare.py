"""tiny_shakespeare: a million characters of the plays."""

import re
from collections import defaultdict
from itertools import chain

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.described import Described
from diffusion_text.data.reading import SPLITS, bounds, read_lines, split_by_position, text_lines
from diffusion_text.data.tables import hub_rows
from diffusion_text.errors import UserError
from diffusion_text.values import one_of, or_null

SPEECH = re.compile(r"([A-Z][\w' ,.-]*):\n(.+)", re.DOTALL)


class TinyShakespeare(TextDataModule):
    """From the hub (`karpathy/tiny_shakespeare` in its parquet form), or from `dir`: a file, or a folder of input.txt.

    Split 90 / 5 / 5 % by contiguous position, as usual; the hub's copy is split so already. With `label` speaker each
    speech is a text, of which it is known who speaks, and the speeches of each are split so by themselves: the last
    plays have speakers of their own.
    """

    licence = "public domain"

    def __init__(self, cache_dir: str, label: str | None = None, **settings):
        super().__init__(cache_dir, **settings)
        self.label = or_null(one_of, label, "data.label", options=("speaker",))

    def lines(self, split):
        if self.dir is None:
            repository = "karpathy/tiny_shakespeare"
            rows = hub_rows(repository, "refs/convert/parquet", "tiny_shakespeare", split, ("text",))
            return (line for (text,) in rows for line in text_lines(text))
        file = self.dir / "input.txt" if self.dir.is_dir() else self.dir
        if not file.is_file():
            raise UserError(f"there is no tiny_shakespeare at {file}: data.dir= takes the text file or its folder")
        return split_by_position(lambda: read_lines(file), split)

    def described(self, split):
        if self.label is None:
            return
        speeches = defaultdict(list)
        for paragraph in chain.from_iterable(map(self.paragraphs, SPLITS)):
            if speech := SPEECH.fullmatch(paragraph):
                speeches[speech[1]].append(speech[2])
        for speaker, of_one in speeches.items():
            for text in of_one[slice(*bounds(len(of_one), split))]:
                yield Described({"speaker": speaker}, text)

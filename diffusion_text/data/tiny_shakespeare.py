"""tiny_shakespeare: a million characters of the plays."""

from diffusion_text.data.base import TextDataModule
from diffusion_text.data.reading import hub_lines, read_lines, split_by_position
from diffusion_text.errors import UserError


class TinyShakespeare(TextDataModule):
    """From the hub (`karpathy/tiny_shakespeare` in its parquet form), or from `dir`: a file, or a folder of input.txt.

    Split 90 / 5 / 5 % by contiguous position, as usual; the hub's copy is split so already.
    """

    def lines(self, split):
        if self.dir is None:
            return hub_lines("karpathy/tiny_shakespeare", None, "refs/convert/parquet", "tiny_shakespeare", split)
        file = self.dir / "input.txt" if self.dir.is_dir() else self.dir
        if not file.is_file():
            raise UserError(f"there is no tiny_shakespeare at {file}: data.dir= takes the text file or its folder")
        return split_by_position(lambda: read_lines(file), split)

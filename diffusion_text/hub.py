"""Reaching the Hugging Face hub, and saying at once that it cannot be reached."""

import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffusion_text.errors import UserError, first_line

EMBEDDING_NAMES = ("embeddings", "embed_tokens.weight", "word_embeddings.weight", "wte.weight", "shared.weight")
KINDS = (".json", ".safetensors", ".txt", ".model", ".jinja")  # of files that cannot run anything
REMOTE = "hf://"  # begins the address of a file on the hub
TABLE = ".parquet"
TIMEOUT = 6  # seconds; the libraries' own retries take up to a minute


@cache
def prepare_hub() -> bool:
    """Whether the hub answers. If it does not, the libraries are told to look only at what was downloaded before."""
    import datasets.config
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT)
        except urllib.error.HTTPError:
            pass  # an answer all the same
        except OSError:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    return not constants.HF_HUB_OFFLINE


def hub_files(
    repository: str, revision: str | None, folder: str, group: str, streamed: bool = False
) -> tuple[str, list[str]]:
    """A folder of a data set on the hub, and the parquet files below it, in order; downloaded, or where they lie if
    they are to be streamed; one clear line where they cannot be had.
    """
    from huggingface_hub import HfApi, snapshot_download

    online = prepare_hub()
    try:
        if streamed:
            place = f"{REMOTE}datasets/{repository}@{revision or 'main'}/{folder}".rstrip("/")
            names = HfApi().list_repo_files(repository, repo_type="dataset", revision=revision)
            inside = [name.removeprefix(f"{folder}/") for name in sorted(names) if name.startswith(folder)]
            return place, [name for name in inside if name.endswith(TABLE)]
        wanted = f"{folder}/*{TABLE}".lstrip("/")
        copy = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=wanted)
        return str(Path(copy) / folder), tables_below(Path(copy) / folder)
    except (OSError, ValueError) as error:
        reason = first_line(error) if online else "the Hugging Face hub cannot be reached"
        raise UserError(
            f"{repository} is not to be had ({reason}): give a local copy with data={group} data.dir=PATH, "
            "or train offline with data=python_docs"
        ) from error


def tables_below(folder: Path) -> list[str]:
    """The parquet files in a folder and below it, in order."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob(f"*{TABLE}"))


def load_pretrained(cls: Any, pretrained: str | Path, setting: str, file: str, offline: str) -> Any:
    """`cls.from_pretrained` of a local directory, which has a `file`, or of a model on the hub.

    Where it cannot be had, one clear line names the `setting` and what works `offline`.
    """
    path = Path(pretrained)
    looks_local = path.is_absolute() or str(pretrained).startswith((".", "~")) or path.expanduser().exists()
    if looks_local and not (path.expanduser() / file).is_file():
        raise UserError(f"{setting}={pretrained} is not a model directory: it has no {file}")
    online = looks_local or prepare_hub()
    try:
        return cls.from_pretrained(path.expanduser() if looks_local else str(pretrained), trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0] if online else "the Hugging Face hub cannot be reached"
        raise UserError(
            f"{pretrained} is not to be had ({reason}): give a local copy with {setting}=DIR, "
            f"or use the offline {offline}"
        ) from error


def download(name: str, setting: str) -> Path:
    """Where the files of a repository on the hub lie, `user/name` or `user/name@revision`; those that are tensors and
    plain values alone, of which an export is made.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    online = prepare_hub()
    try:
        kinds = [f"*{kind}" for kind in KINDS]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=kinds))
    except (OSError, ValueError) as error:
        reason = first_line(error) if online else "it cannot be reached"
        raise UserError(
            f"{setting}={name} is neither a directory nor to be had from the Hugging Face hub: {reason}"
        ) from error


def load_rows(source: str) -> Tensor:
    """The embedding rows `(vocabulary, width)` of a safetensors file, a local model directory or a model on the hub.

    In a file, the one matrix, or that whose name ends as those of embeddings usually do.
    """
    path, setting = Path(source).expanduser(), "text_space.pretrained_embeddings"
    if path.is_file():
        try:
            return rows_of(load_file(path), source)
        except SafetensorError as error:
            raise UserError(f"{setting}={source} is not a safetensors file: {first_line(error)}") from error
    from transformers import AutoModel

    model = load_pretrained(AutoModel, source, setting, "config.json", f"{setting}=null")
    return model.get_input_embeddings().weight.detach()


def rows_of(tensors: dict[str, Tensor], source: str) -> Tensor:
    """The matrix among a file's tensors that holds the embeddings."""
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2}
    named = [tensor for name, tensor in matrices.items() if name.endswith(EMBEDDING_NAMES)]
    candidates = named or list(matrices.values())
    if len(candidates) != 1:
        raise UserError(
            f"text_space.pretrained_embeddings={source} has {len(candidates)} matrices that may be the embeddings: "
            f"keep one, or name it {EMBEDDING_NAMES[0]}"
        )
    return candidates[0]

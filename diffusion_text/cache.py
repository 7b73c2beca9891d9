"""Directories built once and found again by what they were made from."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from diffusion_text.errors import UserError


def cached_directory(
    cache_dir: str | Path,
    kind: str,
    key: Mapping[str, object],
    code: list[str],
    build: Callable[[Path], None],
) -> Path:
    """The directory that `build` fills for this `key` and these source files `code`; built by one process, once.

    A build that fails or is killed leaves nothing behind that a later run would take for a result.
    """
    parent = Path(cache_dir).expanduser() / kind
    digest = content_digest(json.dumps(key, sort_keys=True), *(Path(file).read_text(encoding="utf-8") for file in code))
    directory = parent / digest
    if directory.exists():
        return directory
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the cache in {parent}: {error.strerror}; choose another with cache_dir=DIR"
        ) from error
    with FileLock(parent / f"{digest}.lock"):
        if not directory.exists():
            unfinished = Path(tempfile.mkdtemp(prefix=f"{digest}-", dir=parent))
            try:
                build(unfinished)
                unfinished.replace(directory)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def content_digest(*parts: str) -> str:
    """16 hexadecimal digits that change when any part does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:16]

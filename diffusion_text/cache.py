"""Directories built once and found again by what they were made from."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import platformdirs
from filelock import FileLock

from diffusion_text.errors import UserError
from diffusion_text.storage import DamagedError, check_directory, replacing_directory

log = logging.getLogger(__name__)


def default_cache() -> str:
    """Where the environment says that caches are, or this platform keeps them."""
    return os.environ.get("DIFFUSION_TEXT_CACHE") or platformdirs.user_cache_dir("diffusion_text")


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
    if is_whole(directory):
        return directory
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the cache in {parent}: {error.strerror}; choose another with cache_dir=DIR"
        ) from error
    with FileLock(parent / f"{digest}.lock"):
        if not is_whole(directory):
            with replacing_directory(directory) as unfinished:
                build(unfinished)
    return directory


def is_whole(directory: Path) -> bool:
    """Whether a directory is as it was built; says where it is not."""
    if not directory.is_dir():
        return False
    try:
        check_directory(directory)
    except DamagedError as damage:
        log.warning("%s; building it again", damage)
        return False
    return True


def content_digest(*parts: str) -> str:
    """16 hexadecimal digits that change when any part does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:16]

"""What is made once and found again by what it was made from."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from filelock import FileLock

from diffusion_text.errors import UserError
from diffusion_text.storage import DamagedError, check_directory, read_text, replacing_directory, stamp, write_json

log = logging.getLogger(__name__)
WORTH = 4_000_000  # bytes of files, fewer of which are read again as soon as known again
TICK = 100_000_000  # nanoseconds after which a file that changes has another time
Found = TypeVar("Found")


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


def found_in(
    files: Iterable[Path],
    cache_dir: str | Path,
    kind: str,
    key: Mapping[str, object],
    code: list[str],
    find: Callable[[], Found],
) -> Found:
    """What `find` finds in files, plain values; once, for as long as their names, sizes and times are the same, which
    is no use where they are small, and no proof where they have only just changed.
    """
    files = list(files)
    seen = stamps(files)
    small = sum(size for _, size, *_ in seen) < WORTH
    if files and (small or time.time_ns() - max(max(times) for _, _, *times in seen) < TICK):
        return find()

    def build(directory: Path) -> None:
        write_json(directory / "found.json", find())
        if stamps(files) != seen:
            raise UserError("the corpus changed while it was read: start again")

    return json.loads(read_text(cached_directory(cache_dir, kind, {"files": seen, **key}, code, build) / "found.json"))


def stamps(files: Iterable[Path]) -> list[list[Any]]:
    """Names, sizes in bytes, and times of the last changes, in nanoseconds."""
    return [[str(file.absolute()), *stamp(file), file.stat().st_ctime_ns] for file in files]


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

"""Reaching the Hugging Face hub, and saying at once that it cannot be reached."""

import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from diffusion_text.errors import UserError

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


def load_pretrained(cls: Any, pretrained: str | Path, group: str, file: str, offline: str) -> Any:
    """`cls.from_pretrained` of a local directory, which has a `file`, or of a model on the hub.

    Where it cannot be had, one clear line names the setting, `group`.pretrained, and what works `offline`.
    """
    path = Path(pretrained)
    looks_local = path.is_absolute() or str(pretrained).startswith((".", "~")) or path.expanduser().exists()
    if looks_local and not (path.expanduser() / file).is_file():
        raise UserError(f"{group}.pretrained={pretrained} is not a model directory: it has no {file}")
    online = looks_local or prepare_hub()
    try:
        return cls.from_pretrained(path.expanduser() if looks_local else str(pretrained))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if online else "the Hugging Face hub cannot be reached"
        raise UserError(
            f"{pretrained} is not to be had ({reason}): give a local copy with {group}.pretrained=DIR, "
            f"or use the offline {offline}"
        ) from error

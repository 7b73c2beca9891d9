"""Reaching the Hugging Face hub, and saying at once that it cannot be reached."""

import urllib.error
import urllib.request
from functools import cache

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

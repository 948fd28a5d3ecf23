"""Files of a model on the Hugging Face hub: from the cache if they are there, else downloaded, never a hang."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import GanatomyError
from .files import one_line

HUB_PREFIX = "hub:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer. The client alone retries for 23 s on a machine without network."""


def fetch(hub_id: str, filename: str) -> Path:
    """Return the path of a file of the hub's repository ``ORG/NAME``.

    What is in the cache is used as it is, so that a second run needs no network and sees the same weights.

    Raises:
        GanatomyError: if the hub cannot be reached, or has no such repository or file.
    """
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, filename)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # One question without retries, so that a missing network is noticed at once.
        get_hf_file_metadata(hf_hub_url(hub_id, filename), timeout=TIMEOUT)
        return Path(hf_hub_download(hub_id, filename, etag_timeout=TIMEOUT))
    except hub_errors.RepositoryNotFoundError as error:
        raise GanatomyError(f"the hub has no model {hub_id!r} that may be read without a login") from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise GanatomyError(f"the hub's model {hub_id!r} has no file {filename}") from error
    except Exception as error:  # the HTTP client differs between versions of huggingface_hub, and so do its errors
        raise GanatomyError(
            f"cannot reach the model hub for {filename} of {hub_id!r}, and it is not in the cache; connect, or download"
            f" the folder elsewhere and give its path ({one_line(error, 120)})"
        ) from error

"""Removing mails from the bucket, and pages of its listing that no measurement waits for. Blocking calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from prober.clean_up import Removal
from prober.observers.s3_client import AwsClient, Listed

LOOKS_PER_MINUTE: Final = 30.0

PAGE: Final = 50
"""Objects that one look fetches."""

_FORBIDDEN: Final = frozenset({"AccessDenied", "AllAccessDisabled", "MethodNotAllowed", "ObjectLocked"})


def remove(client: AwsClient, keys: Sequence[str]) -> Mapping[str, Removal]:
    """Delete objects, at most 1000; one that is not there counts as removed, as S3 tells it. Raises Unreadable.

    One whose deletion failed for a reason that may pass is left out.
    """
    failed = client.delete_objects(keys)
    denied = {key for key, code in failed.items() if code in _FORBIDDEN}
    return {
        key: Removal.DENIED if key in denied else Removal.REMOVED for key in keys if key not in failed or key in denied
    }


def old_page(client: AwsClient, after: str, before: float) -> tuple[list[Listed], str]:
    """Objects last changed before wall time ``before``, in the order of their keys, and the key that the next page
    follows ('' : none)."""
    page, following = client.listed_after(after)
    old = [listed for listed in page if listed.modified <= before]
    if len(old) > PAGE:
        return old[:PAGE], old[PAGE - 1].key
    return old, following

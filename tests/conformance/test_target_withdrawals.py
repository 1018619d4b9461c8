"""Taking a publication back: every answer is an end, or a reason to try again."""

from __future__ import annotations

import pytest

from prober.clean_up import Removal
from prober.clock import SystemClock
from prober.errors import OwnFault, TargetError
from prober.targets import Withdrawing
from prober.targets.publishing_module import PublishingModule
from tests.conformance.scripted_api import Turn, scripted
from tests.conformance.test_target_publishing_module import PUBLICATION_ID, settings

REQUEST = f"DELETE /api/v1/publications/{PUBLICATION_ID}"


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (204, Removal.REMOVED),
        (200, Removal.REMOVED),
        (404, Removal.GONE),
        (409, Removal.TOO_LATE),
        (403, Removal.DENIED),
        (405, Removal.DENIED),
    ],
)
async def test_how_a_withdrawal_ends(status: int, end: Removal) -> None:
    """Taken back, unknown, too late and forbidden are ends: none of them is tried again."""
    async with scripted(Turn(REQUEST, status)) as api, PublishingModule(settings(api), SystemClock()) as target:
        assert isinstance(target, Withdrawing)
        assert await target.withdraw(PUBLICATION_ID.upper()) is end


@pytest.mark.parametrize("status", [500, 503, 401, 429])
async def test_what_is_tried_again(status: int) -> None:
    """A failing target, a token that it does not take and its limits end nothing."""
    async with scripted(Turn(REQUEST, status)) as api, PublishingModule(settings(api), SystemClock()) as target:
        with pytest.raises(TargetError):
            await target.withdraw(PUBLICATION_ID)


async def test_what_is_no_id_never_leaves() -> None:
    """Nothing but a publication's id becomes part of the address."""
    async with scripted() as api, PublishingModule(settings(api), SystemClock()) as target:
        with pytest.raises(OwnFault):
            await target.withdraw("1/../../channels")

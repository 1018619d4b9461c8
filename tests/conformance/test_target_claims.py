"""What the Publishing Module says about delivery and about its dependencies."""

from __future__ import annotations

import pytest

from prober.clock import SystemClock
from prober.errors import OwnFault, Refused, TargetError, Unanswered
from prober.model import Waypoint
from prober.targets.publishing_module import PublishingModule
from tests.conformance.scripted_api import Turn, scripted
from tests.conformance.test_target_publishing_module import CHANNEL, PUBLICATION_ID, documented, settings


async def test_claims_of_a_publication() -> None:
    """Status and deliveries become waypoints on the target's clock, only for the publication's own channels."""
    results = {
        CHANNEL: {"status": "success", "delivered_at": "2026-11-23T10:00:04.5"},
        PUBLICATION_ID: {"status": "success", "delivered_at": "2026-11-23T10:00:05Z"},
        "x": 3,
    }
    data = {"channels": [CHANNEL], "status": "completed", "channel_results": results, "published_time": None,
            "created_at": "2026-11-23T10:00:00Z", "updated_at": "2026-11-23T12:00:06+02:00"}  # fmt: skip
    async with (
        scripted(Turn(f"GET /api/v1/publications/{PUBLICATION_ID}", 200, documented(data))) as api,
        PublishingModule(settings(api), SystemClock()) as target,
    ):
        points = await target.claims(PUBLICATION_ID.upper())
    assert points == (
        Waypoint("created", 1795428000.0, "target", 1.0),
        Waypoint("claimed_completed", 1795428006.0, "target", 1.0),
        Waypoint("claimed_delivered", 1795428004.5, f"target:{CHANNEL}", 0.1),
    )


async def test_claims_of_an_alert() -> None:
    """An id that is no publication is looked up as an alert; a claim without a time has that of its telling."""
    turns = [
        Turn(f"GET /api/v1/publications/{PUBLICATION_ID}", 404, {"detail": "Not Found"}),
        Turn(f"GET /api/v1/alerts/{PUBLICATION_ID}", 200, documented({"status": "sent", "created_at": "nonsense"})),
    ]
    before = SystemClock().now().wall
    async with scripted(*turns) as api, PublishingModule(settings(api), SystemClock()) as target:
        (point,) = await target.claims(PUBLICATION_ID)
    assert (point.name, point.source) == ("claimed_sent", "prober")
    assert before <= point.at


async def test_claims_of_an_unknown_id() -> None:
    """What the target does not know is a refusal; what is no id never leaves."""
    turns = [Turn(f"GET /api/v1/{place}/{PUBLICATION_ID}", 404) for place in ("publications", "alerts")]
    async with scripted(*turns) as api, PublishingModule(settings(api), SystemClock()) as target:
        with pytest.raises(Refused):
            await target.claims(PUBLICATION_ID)
        with pytest.raises(OwnFault):
            await target.claims("1/../../channels")


@pytest.mark.parametrize("bare", [True, False])
async def test_health(bare: bool) -> None:
    """Health is found below the prefix or at the root, once; a 503 tells it too, and strange names are dropped."""
    services = {"aws_ses": "connected", "slack_api": "error", "discord_api": "resting", "Evil{label}": "connected"}
    data = {"status": "unhealthy", "database_status": "connected", "redis_status": "disconnected",
            "external_services": services}  # fmt: skip
    body = data if bare else documented(data)
    turns = [Turn("GET /api/v1/health", 404), Turn("GET /health", 503, body), Turn("GET /health", 200, body)]
    async with scripted(*turns) as api, PublishingModule(settings(api), SystemClock()) as target:
        states = [await target.health(), await target.health()]
    told = {"database": True, "redis": False, "aws_ses": True, "slack_api": False, "discord_api": None}
    assert states == [told, told]
    assert all("Authorization" not in heard.headers for heard in api.heard)


@pytest.mark.parametrize(("status", "body", "kind"), [(500, {}, Unanswered), (503, b"busy", Unanswered),
                                                      (200, {"fine": 1}, Unanswered), (403, {}, Refused)])  # fmt: skip
async def test_no_health(status: int, body: object, kind: type[TargetError]) -> None:
    """An answer that tells no dependency's state is an error, not a healthy target."""
    async with (
        scripted(Turn("GET /api/v1/health", status, body)) as api,
        PublishingModule(settings(api), SystemClock()) as target,
    ):
        with pytest.raises(kind):
            await target.health()

"""One suite for the target seam: what holds for every adapter, the in-process world included."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from itertools import pairwise

import pytest

from prober.clean_up import Removal
from prober.clock import SystemClock
from prober.errors import OwnFault, Refused, TargetError, Unanswered, Unreachable
from prober.model import Answer, Key, KeyKind, PublishResult, Step, StepAction, Waypoint
from prober.targets import Withdrawing
from tests.conformance.targets import CREATE, TARGETS, Bench, Maker, in_process, tasks_and_sockets

ALL = pytest.mark.parametrize("behind", TARGETS.values(), ids=TARGETS)
OVER_HTTP = pytest.mark.parametrize(
    "behind", [each for each in TARGETS.values() if each is not in_process], ids=[n for n in TARGETS if n != "world"]
)


async def fails(bench: Bench, step: Step = CREATE, *channels: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await bench.target.take(step, bench.publication(*(channels or ("email",))))
    return caught.value


async def create(bench: Bench, scheduled_after: float | None = None) -> Answer:
    return await bench.target.take(CREATE, bench.publication("email", scheduled_after=scheduled_after))


@ALL
async def test_accepted(behind: Maker) -> None:
    """What is accepted tells its two instants, the target's id, and the key that this id is."""
    async with behind("seed: 1") as bench:
        before = SystemClock().now()
        answer = await create(bench)
        after = SystemClock().now()
        assert 200 <= answer.status < 300
        instants = [before, answer.requested_at, answer.answered_at, after]
        assert all(later.since(earlier) >= 0 for earlier, later in pairwise(instants))
        assert answer.publication_id in bench.world.world.records
        assert answer.learned == (Key(KeyKind.PUBLICATION_ID, answer.publication_id),)


@ALL
async def test_the_request_leaves_after_its_instant(behind: Maker) -> None:
    """The request's instant lies before the target could have heard it, and the answer's after its delay."""
    async with behind("api: {latency: 50ms}") as bench:
        answer = await create(bench)
        (heard,) = bench.requests()
        assert answer.requested_at.wall <= heard.at <= answer.answered_at.wall
        assert answer.answered_at.since(answer.requested_at) >= 0.04


@ALL
async def test_marks(behind: Maker) -> None:
    """A request says whose it is, and carries one idempotency key for its step."""
    async with behind("seed: 1") as bench:
        await create(bench)
        (heard,) = bench.requests()
        assert (heard.probe, heard.idempotency_key) == ("p1", "p1-0")


@ALL
@pytest.mark.parametrize(
    ("weather", "expected", "published"),
    [
        ("api: {status: 403}", (Refused, PublishResult.REFUSED, 403), False),
        ("api: {status: 429}", (Refused, PublishResult.REFUSED, 429), False),
        ("api: {status: 503}", (Unanswered, PublishResult.ERROR, 503), False),
        ("api: {error_rate: 1}", (Unanswered, PublishResult.ERROR, 500), False),
        ("api: {reset_rate: 1}", (Unanswered, PublishResult.ERROR, None), False),
        ("api: {accepted_but_500: 1}", (Unanswered, PublishResult.ERROR, 500), True),
        ("api: {garbage_rate: 1}", (Unanswered, PublishResult.ERROR, 200), True),
        ("api: {timeout_rate: 1}", (Unanswered, PublishResult.TIMEOUT, None), True),
    ],
)
async def test_not_accepted(
    behind: Maker,
    weather: str,
    expected: tuple[type[TargetError], PublishResult, int | None],
    published: bool,
) -> None:
    """Each way of failing is told as it is, with the instant at which the request left, and is never repeated:
    some of what is said to have failed was published all the same."""
    async with behind(weather) as bench:
        error = await fails(bench)
        assert (type(error), error.result, error.status) == expected
        assert error.requested_at is not None
        assert (error.answered_at is None) is (error.result is PublishResult.TIMEOUT)
        assert len(bench.requests()) == 1
        assert len(bench.world.world.records) == published


@ALL
async def test_refused_by_the_target_itself(behind: Maker) -> None:
    """A channel that does not exist is the target's own refusal, in its own words."""
    async with behind("seed: 1") as bench:
        error = await fails(bench, CREATE, "unknown")
        assert isinstance(error, Refused)
        assert "does not exist" in f"{error.title} {error.detail}"
        assert error.requested_at is not None
        assert not bench.world.world.records


@ALL
async def test_unreachable(behind: Maker) -> None:
    """Where nobody listens, nothing has left: no instant, no request, for a step and for health alike."""
    async with behind("seed: 1") as bench:
        await bench.go_down()
        error = await fails(bench)
        assert isinstance(error, Unreachable)
        assert (error.result, error.requested_at, error.status) == (PublishResult.UNREACHABLE, None, None)
        with pytest.raises(Unreachable):
            await bench.target.health()
        assert bench.requests() == []


@ALL
async def test_a_sending_without_a_recipient_never_leaves(behind: Maker) -> None:
    """A send that names nobody could reach real subscribers: our own fault, and nothing is heard of it."""
    async with behind("seed: 1") as bench:
        created = await create(bench, scheduled_after=600)
        send = Step("p1", 1, StepAction.SEND, "", created.publication_id)
        error = await fails(bench, send)
        assert isinstance(error, OwnFault)
        assert error.requested_at is None
        assert len(bench.requests()) == 1


@ALL
async def test_a_sending_teaches_the_messages_id(behind: Maker) -> None:
    """A send to one address teaches the provider's id of what was sent, before or after it has arrived."""
    async with behind("seed: 1") as bench:
        created = await create(bench, scheduled_after=600)
        (inbox,) = [place for place in bench.world.places if place.name == "email"]
        recipient = inbox.address.replace("@", "+p1@")
        answer = await bench.target.take(
            Step("p1", 1, StepAction.SEND, recipient, created.publication_id), bench.publication("email")
        )
        assert [key.kind for key in answer.learned] == [KeyKind.MESSAGE_ID]
        assert answer.publication_id == created.publication_id


@ALL
async def test_cancel(behind: Maker) -> None:
    """What is cancelled in time is accepted, once: the second time the target says no."""
    async with behind("seed: 1") as bench:
        created = await create(bench, scheduled_after=600)
        stop = Step("p1", 1, StepAction.CANCEL, publication_id=created.publication_id)
        answer = await bench.target.take(stop, bench.publication("email"))
        assert (answer.publication_id, answer.learned) == (created.publication_id, ())
        assert isinstance(await fails(bench, replace(stop, number=2)), Refused)


@ALL
async def test_claims_are_waypoints(behind: Maker) -> None:
    """What the target says about a delivery is a list of waypoints on somebody's clock, and nothing else."""
    async with behind("seed: 1") as bench:
        created = await create(bench)
        requests = len(bench.requests())
        claimed = await bench.target.claims(created.publication_id)
        assert isinstance(claimed, tuple)
        assert all(isinstance(point, Waypoint) and point.source for point in claimed)
        assert len(bench.requests()) == requests
        if behind is not in_process:
            assert {"created"} <= {point.name for point in claimed}
            assert any(point.name.startswith("claimed_") for point in claimed)


@OVER_HTTP
async def test_claims_of_the_unknown(behind: Maker) -> None:
    """A publication that the target does not know is no claim."""
    async with behind("seed: 1") as bench:
        with pytest.raises(Refused):
            await bench.target.claims("1e0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f")


@ALL
async def test_health(behind: Maker) -> None:
    """Health names dependencies and says of each whether it is up; a server that is out is down."""
    async with behind("seed: 1") as bench:
        states = await bench.target.health()
        assert states
        assert all(state is not False for state in states.values())


@OVER_HTTP
async def test_another_channel_than_the_allowed_ones(behind: Maker) -> None:
    """What is not on the allow-list never leaves, nor does a publication for no channel at all."""
    async with behind("seed: 1") as bench:
        stranger = replace(bench.publication("email"), target_channels=("5f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f",))
        for publication in (stranger, replace(stranger, target_channels=())):
            with pytest.raises(OwnFault) as caught:
                await bench.target.take(CREATE, publication)
            assert caught.value.requested_at is None
        assert bench.requests() == []


@OVER_HTTP
async def test_withdraw(behind: Maker) -> None:
    """A publication is taken back, and taking it back again is an end, too."""
    async with behind("seed: 1") as bench:
        assert isinstance(bench.target, Withdrawing)
        created = await create(bench, scheduled_after=600)
        assert await bench.target.withdraw(created.publication_id) is Removal.REMOVED
        assert await bench.target.withdraw(created.publication_id) in (Removal.TOO_LATE, Removal.GONE)


@OVER_HTTP
async def test_many_at_once_and_nothing_left_behind(behind: Maker) -> None:
    """Steps at the same time have a connection each, every one is heard once, and no socket or task stays."""
    before = tasks_and_sockets()
    async with behind("api: {latency: 100ms}") as bench:
        steps = [Step(f"p{number}", 0, StepAction.CREATE) for number in range(20)]
        await asyncio.gather(*(bench.target.take(step, bench.publication("email")) for step in steps))
        assert sorted(one.idempotency_key for one in bench.requests()) == sorted(f"p{n}-0" for n in range(20))
    assert tasks_and_sockets() == before


@ALL
async def test_every_way_of_the_seam(behind: Maker) -> None:
    """An adapter has every method of the seam, and each is a coroutine."""
    async with behind("seed: 1") as bench:
        for name in ("take", "claims", "health"):
            assert inspect.iscoroutinefunction(getattr(bench.target, name))

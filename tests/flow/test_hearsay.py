"""What a provider says of mail on its way: waypoints and reasons, and never a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, select

from prober.errors import Unreadable
from prober.ledger.tables import keys
from prober.model import Hearsay, KeyKind, Waypoint
from prober.report.result import DeliveryResult, ProbeResult
from prober.report.values import probe_to_json
from tests.flow.rig import Life, Rig, verdict

LOST = "channels: {email: {loss: 1}}"
WHY = "bounced: Permanent General, smtp; 550 5.1.1 user unknown"


@dataclass
class Scripted:
    """A witness that says what a test puts into it, until it is told to forget it."""

    name: str = "ses"
    said: list[Hearsay] = field(default_factory=list)
    held_back: Waypoint | None = None
    asked: list[str] = field(default_factory=list)
    silent: bool = False
    forgets: bool = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def hear(self) -> tuple[Hearsay, ...]:
        if self.silent:
            raise Unreadable("unreachable", "nobody is there")
        return tuple(self.said)

    async def forget(self, heard: Sequence[Hearsay]) -> int:
        if not self.forgets:
            raise Unreadable("timeout", "not now")
        self.said = [said for said in self.said if said not in heard]
        return 0

    async def suppressed(self, address: str) -> Waypoint | None:
        self.asked.append(address)
        return self.held_back


@asynccontextmanager
async def probing(folder: Path, weather: str = "seed: 1") -> AsyncIterator[tuple[Rig, Life, Scripted, Hearsay]]:
    """A probe that was just published, and a bounce of its mail, which nobody has said yet."""
    witness = Scripted()
    rig = Rig(folder, weather)
    rig.witnesses = (witness,)
    async with rig.world_turning(), rig.life() as life:
        (probe,) = await life.launch()
        await rig.clock.advance(0.2)
        content_id = await at_once(rig, life, probe, KeyKind.CONTENT_ID)
        point = Waypoint("ses_bounce", rig.clock.now().wall, "ses", 0.001, WHY)
        yield rig, life, witness, Hearsay(point, (content_id,), (life.channels["email"].address,), "r")


async def at_once(rig: Rig, life: Life, probe: str, kind: KeyKind) -> str:
    def key_of(conn: Connection) -> str:
        query = select(keys.c.value).where(keys.c.probe_id == probe, keys.c.kind == kind.value)
        return str(conn.execute(query).scalar_one())

    task = asyncio.ensure_future(life.flow.ledger.read(key_of))
    await rig.clock.advance(0)
    return await task


async def deliveries(rig: Rig, life: Life) -> dict[str, DeliveryResult]:
    (probe,) = await rig.results(life)
    return {delivery.channel: delivery for delivery in probe.deliveries}


def heard(delivery: DeliveryResult) -> list[str]:
    return [point.name for point in delivery.waypoints if point.source == "ses"]


async def test_a_bounce_is_the_stated_reason_of_a_loss(tmp_path: Path) -> None:
    """The loss is proven by reads, and the bounce stands beside it, in the JSON too, on its own channel only."""
    async with probing(tmp_path, LOST) as (rig, life, witness, bounce):
        witness.said = [bounce]
        await rig.clock.advance(10)
        early = (await deliveries(rig, life))["email"]
        assert (verdict(early), early.stated) == (("open", "open"), (WHY,)), "it settles nothing"
        await rig.clock.advance(200)
        found = await deliveries(rig, life)
        (probe,) = await rig.results(life)
    assert verdict(found["email"]) == ("overdue", "lost")
    assert found["email"].outcome is not None
    assert found["email"].outcome.reason == "not visible at the horizon"
    assert (found["email"].stated, heard(found["email"])) == ((WHY,), ["ses_bounce"])
    assert (found["slack"].stated, heard(found["slack"])) == ((), [])
    assert witness.said == []
    (written,) = [one for one in probe_to_json(probe)["deliveries"] if one["channel"] == "email"]
    assert written["stated"] == [WHY]
    assert [point["detail"] for point in written["waypoints"] if point["name"] == "ses_bounce"] == [WHY]


async def test_a_delivery_event_is_no_proof(tmp_path: Path) -> None:
    """What SES says to have delivered is lost all the same where nobody saw it."""
    async with probing(tmp_path, LOST) as (rig, life, witness, bounce):
        point = replace(bounce.waypoint, name="ses_delivery", detail="250 ok")
        witness.said = [replace(bounce, waypoint=point)]
        await rig.clock.advance(200)
        email = (await deliveries(rig, life))["email"]
    assert (verdict(email), heard(email), email.stated) == (("overdue", "lost"), ["ses_delivery"], ())


async def test_a_bounce_takes_nothing_from_what_was_seen(tmp_path: Path) -> None:
    """A mail that was seen is delivered, whatever SES says of it."""
    async with probing(tmp_path) as (rig, life, witness, bounce):
        witness.said = [bounce]
        await rig.clock.advance(200)
        email = (await deliveries(rig, life))["email"]
    assert (verdict(email), email.stated) == (("on_time", "delivered"), (WHY,))


async def test_what_is_heard_twice_is_on_record_once(tmp_path: Path) -> None:
    """Where forgetting fails, or two queues say the same, there is one waypoint all the same."""
    async with probing(tmp_path) as (rig, life, witness, bounce):
        witness.said, witness.forgets = [bounce, replace(bounce, receipt="other")], False
        await rig.clock.advance(20)
        assert len(witness.said) == 2
        witness.forgets = True
        await rig.clock.advance(100)
        email = (await deliveries(rig, life))["email"]
    assert heard(email) == ["ses_bounce"]
    assert witness.said == []


async def test_what_cannot_be_understood_yet_is_heard_again_for_a_while(tmp_path: Path) -> None:
    """Of our own address an unknown key may be learned yet; after ten minutes, and of strangers at once, it is not."""
    async with probing(tmp_path) as (rig, life, witness, bounce):
        unknown = replace(bounce, texts=("<0100-unknown-1@email.amazonses.com>",), receipt="unknown")
        strangers = replace(unknown, recipients=("bob@elsewhere.example",), receipt="strangers")
        witness.said = [unknown, strangers]
        await rig.clock.advance(500)
        assert witness.said == [unknown]
        await rig.clock.advance(200)
        assert witness.said == []
        assert heard((await deliveries(rig, life))["email"]) == []


async def test_an_event_that_precedes_its_key_is_joined_later(tmp_path: Path) -> None:
    """SES may tell of a mail before the API has answered with its id."""
    async with probing(tmp_path) as (rig, life, witness, bounce):
        witness.said = [replace(bounce, texts=("<0100-late-1@email.amazonses.com>",))]
        await rig.clock.advance(30)
        (probe,) = await rig.results(life)

        def learn(conn: Connection) -> None:
            conn.execute(
                keys.insert().values(
                    value="0100-late-1", probe_id=probe.probe, kind=KeyKind.MESSAGE_ID.value, channel="email"
                )
            )

        task = asyncio.ensure_future(life.flow.ledger.write(learn))
        await rig.clock.advance(30)
        await task
        assert heard((await deliveries(rig, life))["email"]) == ["ses_bounce"]


async def test_a_key_of_another_channel_names_no_delivery_here(tmp_path: Path) -> None:
    """A recipient that is not this channel's, or a key bound to another, says nothing about this delivery."""
    async with probing(tmp_path) as (rig, life, witness, bounce):
        witness.said = [replace(bounce, recipients=("ada@elsewhere.example",))]
        await rig.clock.advance(20)
        assert heard((await deliveries(rig, life))["email"]) == []


async def test_mail_that_does_not_come_is_asked_for(tmp_path: Path) -> None:
    """At the deadline the suppression list is asked for the address, and its word stands beside the verdicts."""
    async with probing(tmp_path, LOST) as (rig, life, witness, _):
        why = "suppressed since yesterday (BOUNCE): SES sends nothing to this address, a later loss is self-made"
        witness.held_back = Waypoint("ses_suppressed", rig.clock.now().wall - 86400, "ses", 1.0, why)
        await rig.clock.advance(25)
        assert witness.asked == []
        await rig.clock.advance(200)
        found = await deliveries(rig, life)
        address = life.channels["email"].address
    assert set(witness.asked) == {address}
    assert (verdict(found["email"]), found["email"].stated) == (("overdue", "lost"), (why,))
    assert heard(found["email"]) == ["ses_suppressed"], "asked twice, on record once"


async def test_what_was_seen_is_not_asked_for(tmp_path: Path) -> None:
    """Nobody asks why a mail did not come that came."""
    async with probing(tmp_path) as (rig, _, witness, _bounce):
        await rig.clock.advance(200)
        assert witness.asked == []


async def test_what_comes_late_is_asked_for_only_while_it_is_missing(tmp_path: Path) -> None:
    """A mail that is missing at its deadline is asked for then, and not again when it has come."""
    async with probing(tmp_path, "channels: {email: {latency: 60s}}") as (rig, life, witness, _):
        await rig.clock.advance(200)
        assert verdict((await deliveries(rig, life))["email"]) == ("overdue", "delivered")
        assert witness.asked == [life.channels["email"].address]


async def test_a_silent_provider_is_no_blindness(tmp_path: Path) -> None:
    """Where nothing is heard every verdict is as without it; what was said meanwhile is heard afterwards."""
    async with probing(tmp_path, LOST) as (rig, life, witness, bounce):
        witness.silent, witness.said = True, [bounce]
        await rig.clock.advance(200)
        found = await deliveries(rig, life)
        assert [verdict(found[name]) for name in ("email", "slack")] == [("overdue", "lost"), ("on_time", "delivered")]
        assert heard(found["email"]) == []
        witness.silent = False
        await rig.clock.advance(70)
        probe: ProbeResult
        (probe,) = await rig.results(life)
        assert heard(probe.deliveries[0]) == ["ses_bounce"]
        assert not life.loops.internal_errors

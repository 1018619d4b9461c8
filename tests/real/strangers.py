"""Strangers on the probes' channels: what they write comes over the real protocols, under names of their own."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiosmtplib
from sqlalchemy import Connection, select

from prober.assembly import keyring
from prober.clock import SystemClock, wait_for_any
from prober.config import Settings
from prober.ledger.tables import keys, sightings, totals, totals_hourly
from prober.marker import Keyring, SigningKey, mint, mint_content_id
from prober.model import (
    ChannelKind,
    How,
    KeyKind,
    Outcome,
    PublicationKind,
    PublishResult,
    SlotState,
    StrayReason,
    Timeliness,
)
from prober.objectives import Journey
from prober.sandbox.mail import fold_address
from prober.sandbox.slack_workspace import Grant
from tests.real.place import LOOK_AGAIN, PATIENCE, Life, Place

CHANNELS = ("email", "slack", "discord")
EVE = "eve@evil.example"
DAY = 86400.0
_EVE_ON_SLACK = Grant("U0EVE", "B0EVE", "A0EVE", set(), set())
_EVE_ON_DISCORD = {"id": "1234567890123456789", "username": "eve", "discriminator": "0000", "bot": False}


def letter(text: str = "", *, subject: str = "hello", to: str = "", headers: str = "") -> bytes:
    """A plain mail of Eve's, whose headers carry no id of any kind."""
    return f"From: Eve <{EVE}>\r\nTo: {to}\r\nSubject: {subject}\r\n{headers}\r\n{text}\r\n".encode()


class Stranger:
    """Eve, who may write on every channel of a place."""

    def __init__(self, world: Place) -> None:
        self._world = world

    async def mails(self, *raws: bytes, by: str = EVE) -> None:
        """Hand mails in over SMTP, where a line holds a thousand bytes."""
        mail, address = self._world.mail, self._world.address("email")
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=mail.smtp_port, use_tls=False, start_tls=False)
        # The truth takes what appears while the world posts for the world's: a stranger waits for its turn.
        async with self._world.sandbox._providers._locks[fold_address(address)], client:
            for raw in raws:
                await client.sendmail(by, [address], raw)

    async def leaves(self, *raws: bytes) -> None:
        """Put mails into the mailbox as they are, whatever SMTP would say to them."""
        address = self._world.address("email")
        async with self._world.sandbox._providers._locks[fold_address(address)]:
            for raw in raws:
                await self._world.mail.deliver(address, raw)

    def says_on_slack(self, text: Any, **body: Any) -> None:
        """A person's message, with whatever fields."""
        self._world.slack.workspace.append(
            _EVE_ON_SLACK, self._world.address("slack"), "", {"subtype": "", "text": text, **body}
        )

    async def announces_on_slack(self, hostile: str = "null", **event: Any) -> None:
        """An event about a message, which no history shows; ``hostile`` is JSON that stands in it as it is."""
        ts = f"{int(time.time())}.{secrets.randbelow(10**6):06d}"
        event = {"type": "message", "channel": self._world.address("slack"), "ts": ts, "hostile": "HERE", **event}
        frame = json.dumps({"envelope_id": secrets.token_hex(8), "payload": {"event": event}})
        await self._world.slack.connected()
        (connection,) = self._world.slack._connections
        await connection.socket.send_str(frame.replace('"HERE"', hostile))

    async def says_on_discord(self, content: Any, **fields: Any) -> str:
        """A person's message, with whatever fields; its id."""
        guild, channel = self._world.discord._guild, self._world.address("discord")
        message = guild.drafted(channel, {}, _EVE_ON_DISCORD) | {"content": content} | fields
        guild.store(message)
        if self._world.discord._faults.push("discord", channel) is not None:
            await self._world.discord._gateway.tell_message(message)
        return str(message["id"])

    async def announces_on_discord(self, hostile: str = "null", **message: Any) -> None:
        """A pushed message, which no history shows; ``hostile`` is JSON that stands in it as it is."""
        (connection,) = self._world.discord._gateway._connections
        session = connection.session
        assert session is not None
        told = {"channel_id": self._world.address("discord"), "type": 0, "hostile": "HERE", **message}
        frame = json.dumps({"t": "MESSAGE_CREATE", "s": session.sequence, "op": 0, "d": told})
        packed = connection.deflate.compress(frame.replace('"HERE"', hostile).encode())
        await connection.socket.send_bytes(packed + connection.deflate.flush(zlib.Z_SYNC_FLUSH))

    async def says_everywhere(self, text: str) -> None:
        """One message with this text on each channel."""
        await self.mails(letter(text))
        self.says_on_slack(text)
        await self.says_on_discord(text)


@dataclass(frozen=True)
class Mint:
    """Makes keys of every standing for one prober."""

    ring: Keyring
    now: float

    @classmethod
    def of(cls, life: Life) -> Mint:
        return cls(keyring(life.settings), life.flow.clock.now().wall)

    def marker(self, *, age: float = 0.0, channel: str = "", recipient: str = "") -> str:
        """A marker that another prober with the same keys might have made."""
        entropy = secrets.token_bytes(16)
        return mint(self.ring, self.now - age, entropy, channel=channel, recipient=recipient)

    def content_id(self, age: float = 0.0) -> str:
        return mint_content_id(self.ring, self.now - age, secrets.token_bytes(16))

    def forged(self) -> str:
        """A marker with our key's id, signed by somebody who has not got the key."""
        (key,) = self.ring.keys
        other = Keyring(self.ring.environment, (SigningKey(key.id, secrets.token_bytes(32)),))
        return replace(self, ring=other).marker()

    def of_another_environment(self) -> str:
        """Signed with our key, for another environment."""
        return replace(self, ring=Keyring("elsewhere", self.ring.keys)).marker()

    def of_an_unknown_key(self) -> str:
        """Signed under a key id of which we know nothing."""
        return replace(self, ring=Keyring("elsewhere", (SigningKey("0", secrets.token_bytes(32)),))).marker()


Attack = Callable[[Mint, str], str]

ATTACKS: Mapping[str, tuple[StrayReason, Attack]] = {
    "forged": (StrayReason.FORGED, lambda mint, _: mint.forged()),
    "another environment under our key": (StrayReason.FORGED, lambda mint, _: mint.of_another_environment()),
    "bound to another channel": (StrayReason.FORGED, lambda mint, _: mint.marker(channel="email-2")),
    "bound to another recipient": (
        StrayReason.FORGED,
        lambda mint, channel: mint.marker(channel=channel, recipient="ada@elsewhere.example"),
    ),
    "forged beside one of another instance's": (
        StrayReason.FOREIGN,
        lambda mint, _: f"{mint.forged()} {mint.marker()}",
    ),
    "another environment under its own key": (StrayReason.FOREIGN, lambda mint, _: mint.of_an_unknown_key()),
    "another instance's": (StrayReason.FOREIGN, lambda mint, _: mint.marker()),
    "another instance's, bound to this channel": (StrayReason.FOREIGN, lambda mint, name: mint.marker(channel=name)),
    "another instance's content id": (StrayReason.FOREIGN, lambda mint, _: f"see /content/{mint.content_id()}"),
    "long ago": (StrayReason.EXPIRED, lambda mint, _: mint.marker(age=40 * DAY)),
    "content id of long ago": (StrayReason.EXPIRED, lambda mint, _: mint.content_id(age=40 * DAY)),
    "long ago beside a new one": (
        StrayReason.FOREIGN,
        lambda mint, _: f"{mint.marker(age=40 * DAY)} {mint.marker()}",
    ),
    "an id that nobody signed": (StrayReason.UNMATCHED, lambda *_: "0c6b2f9e-8a0f-41ef-9a6b-0242ac120002"),
}
"""What a stranger may write with a key in it, and as what it counts."""


@dataclass
class Tripwire:
    """A web server that nobody may visit: its address stands in what strangers send."""

    url: str = ""
    visits: int = 0

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def tripwire() -> AsyncIterator[Tripwire]:
    wire = Tripwire()
    server = await asyncio.start_server(wire._visited, "127.0.0.1", 0)
    async with server:
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield wire


def strays_on_record(conn: Connection) -> Counter[tuple[str, str]]:
    """(channel, reason) -> how many, by the totals."""
    rows = conn.execute(select(totals.c.labels, totals.c.value).where(totals.c.name == "strays_total")).all()
    labels = [(json.loads(row.labels), int(row.value)) for row in rows]
    return Counter({(label["channel"], label["reason"]): value for label, value in labels})


def stray_rows(conn: Connection) -> Counter[tuple[str, str]]:
    """The same by the sightings."""
    rows = conn.execute(select(sightings.c.channel, sightings.c.stray).where(sightings.c.role == "stray")).all()
    return Counter((row.channel, str(row.stray)) for row in rows)


def marker_of(conn: Connection, probe: str) -> str:
    query = select(keys.c.value).where(keys.c.probe_id == probe, keys.c.kind == KeyKind.MARKER.value)
    return str(conn.execute(query).scalar_one())


async def strays(life: Life, expected: Mapping[tuple[str, str], int]) -> None:
    """Wait until as many strays as expected are on record, and find them to be these."""
    async with asyncio.timeout(PATIENCE):
        while (found := await life.flow.ledger.read(strays_on_record)).total() < sum(expected.values()):
            await wait_for_any(SystemClock(), asyncio.Event(), LOOK_AGAIN)
    assert found == Counter(expected)
    assert await life.flow.ledger.read(stray_rows) == found


async def assert_nothing_named_by_strangers(life: Life) -> None:
    """Every label of every total is a configured name or a word of a closed enum."""
    rows = await life.flow.ledger.read(_all_labels)
    assert rows
    for labels in rows:
        for label, value in labels.items():
            assert value in _allowed(life.settings)[label], (label, value)


def _all_labels(conn: Connection) -> Sequence[dict[str, str]]:
    rows = [*conn.execute(select(totals.c.labels)).scalars(), *conn.execute(select(totals_hourly.c.labels)).scalars()]
    return [json.loads(labels) for labels in rows]


class _Bounds:
    """The bounds of buckets: numbers, and infinity."""

    def __contains__(self, value: object) -> bool:
        return value == "+Inf" or (isinstance(value, str) and float(value) < 1e5)


WAYPOINTS = {
    "created", "published", "mailbox", "received", "ses_received", "s3_stored",
    *(f"claimed_{word}" for word in ("scheduled", "processing", "completed", "failed", "cancelled", "queued", "sent")),
    "claimed_delivered",
}  # fmt: skip
"""Names of what a target and mail servers tell; no stranger can add one."""


def _allowed(settings: Settings) -> Mapping[str, Any]:
    return {
        "scenario": {"alert-latency"},
        "kind": set(PublicationKind),
        "channel": set(settings.channels),
        "reason": set(StrayReason),
        "how": set(How),
        "outcome": set(Outcome),
        "verdict": set(Timeliness),
        "result": {*PublishResult, *Journey},
        "state": set(SlotState),
        "le": _Bounds(),
        "waypoint": WAYPOINTS,
        "provider": set(ChannelKind),
        "component": {"clock"},
    }

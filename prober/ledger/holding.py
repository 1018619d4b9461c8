"""Sightings whose key nobody knows yet: how many are kept, how much of each, and for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, or_, select, text

from prober.ledger.attaching import CANDIDATE, Entry, put_sighting
from prober.ledger.dialect import insert
from prober.ledger.prepared import Prepared
from prober.ledger.tables import candidates, deliveries, held, instant_values, sightings, steps
from prober.model import Channel, Message, StepState

MAX_HELD_BYTES = 256 * 1024
"""Of one message's texts, kept only while a key may still be learned."""

MAX_CANDIDATES = 1000
"""Sightings that may wait for a key at once."""

LEARNING_TIME = 600.0
"""Seconds for which a sighting waits for its key."""

# By the ids that are held, which are few; a join would begin with all sightings of the location.
EXPIRED = Prepared(
    select(sightings.c.id, sightings.c.channel, sightings.c.location).where(
        sightings.c.id.in_(
            select(held.c.sighting_id).where(
                or_(
                    and_(held.c.until_boot_id == bindparam("boot"), held.c.until_boottime <= bindparam("boottime")),
                    and_(held.c.until_boot_id != bindparam("boot"), held.c.until_wall <= bindparam("wall")),
                )
            )
        )
    )
)
_STILL_LEARNING = Prepared(
    select(steps.c.number)
    .join(deliveries, deliveries.c.probe_id == steps.c.probe_id)
    .where(
        text("deliveries.open = 1"),
        deliveries.c.location == bindparam("location"),
        deliveries.c.identity == bindparam("identity"),
        steps.c.state.in_([StepState.PLANNED.value, StepState.TAKEN.value]),
    )
    .limit(1)
)
_WAITING = select(func.count()).select_from(held)


def may_learn(conn: Connection, location: str, channel: Channel) -> bool:
    """Whether some publication that covers this channel is not answered yet, and there is room to wait for it."""
    about = {"location": location, "identity": channel.identity}
    if _STILL_LEARNING.first(conn, about) is None:
        return False
    return int(conn.execute(_WAITING).scalar_one()) < MAX_CANDIDATES


def keep_candidate(conn: Connection, row: dict[str, Any], ids: tuple[str, ...], message: Message, entry: Entry) -> None:
    sighting = put_sighting(conn, {**row, "role": CANDIDATE}, entry)
    conn.execute(
        insert(conn, candidates).on_conflict_do_nothing(), [{"value": i, "sighting_id": sighting} for i in ids]
    )
    conn.execute(
        held.insert().values(sighting_id=sighting, texts=json.dumps(_bounded(message.texts), ensure_ascii=False),
                             **instant_values("until", entry.now.plus(LEARNING_TIME)))
    )  # fmt: skip


def _bounded(texts: Sequence[str]) -> list[str]:
    """As much of the texts as may be held, counted in bytes."""
    bounded, room = [], MAX_HELD_BYTES
    for text_ in texts:
        part = text_.encode("utf-8", "replace")[:room]
        bounded.append(part.decode("utf-8", "ignore"))
        room -= len(part)
        if room <= 0:
            break
    return bounded

"""The other half: messages of every sort, pushed or read, reads and their failures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from prober.clock import Instant
from prober.errors import Unreadable
from prober.ledger import observing
from prober.marker import Found, Standing
from prober.model import Blindness, ChannelKind, Control, How, KeyKind, Message, Reading, Stamp
from tests.flow.machine_publishing import CHANNELS, DELAYS, FINE, HERE, PICK, SENDER, PublishingMachine
from tests.flow.reference import Sight

KEYS = ["marker", "marker", "content", "publication", "publication", "message", "both"]
AGAIN = ["again", "twin", "moved", "reset", "double"]


class ObservingMachine(PublishingMachine):
    """What is seen on the channels, and how far they were read."""

    def provider_clock(self, moment: Instant) -> float:
        """The provider's clock, truncated to whole seconds, at a moment of this boot."""
        return float((self.elapsed - self.now.since(moment) + self.provider_ahead) // 1)

    def asked_for(self) -> list[str]:
        """Probes of which a request may have left: nothing else can be seen genuinely."""
        return [probe for probe, act in self.reference.each(lambda act: act.number == 0 and act.taken is not None)]

    @precondition(lambda self: self.asked_for())
    @rule(
        elsewhere=st.sampled_from([*[None] * 9, *CHANNELS]),
        pick=PICK,
        kind=st.sampled_from(KEYS),
        state=st.sampled_from(["fine", "fine", "damaged", "misplaced"]),
        pushed=st.booleans(),
        ago=DELAYS,
    )
    def arrives(self, *, elsewhere: str | None, pick: int, kind: str, state: str, pushed: bool, ago: float) -> None:
        """A message of a probe, known by one key or another, on a channel of it or not."""
        probes = self.asked_for()
        probe = probes[-1 - pick % min(3, len(probes))]
        own = [e.channel for e in self.reference.expectations if e.probe == probe]
        name = elsewhere or own[pick % len(own)]
        marker = Found(KeyKind.MARKER, f"m-{probe}", Standing.GENUINE, self.now.wall)
        content = Found(KeyKind.CONTENT_ID, f"c-{probe}", Standing.GENUINE, self.now.wall)
        told = Found(KeyKind.PUBLICATION_ID, f"u-{probe}", Standing.UNSIGNED, None)
        sent = Found(KeyKind.MESSAGE_ID, f"i-{probe}-mail", Standing.UNSIGNED, None)
        keys = {"marker": (marker, told), "content": (content,), "publication": (told,), "message": (sent,),
                "both": (told, sent)}[kind]  # fmt: skip
        self.comes(name, keys, pushed, ago, state=state)

    @rule(
        name=st.sampled_from(sorted(CHANNELS)),
        pick=PICK,
        kind=st.sampled_from(["forged", "foreign", "unknown", "expired", "stranger", "chatter"]),
        pushed=st.booleans(),
    )
    def stray_arrives(self, name: str, pick: int, kind: str, pushed: bool) -> None:
        """A message that counts for nothing, though it may name a publication."""
        told = Found(KeyKind.PUBLICATION_ID, f"u-p{pick}", Standing.UNSIGNED, None)
        marker = Found(KeyKind.MARKER, "m-unknown", Standing.GENUINE, self.now.wall - 5)
        keys: dict[str, tuple[Found, ...]] = {
            "forged": (replace(marker, standing=Standing.FORGED, minted_at=None), told),
            "foreign": (replace(marker, standing=Standing.FOREIGN, minted_at=None), told),
            "unknown": (marker, told),
            "expired": (replace(marker, minted_at=self.now.wall - 40 * 86400),),
            "stranger": (told,),
            "chatter": (replace(told, value="u-nobody"),),
        }
        self.comes(name, keys[kind], pushed, 0.0, sender="eve@x.example" if kind == "stranger" else SENDER)

    @precondition(lambda self: self.reference.sights)
    @rule(pick=PICK, kind=st.sampled_from(AGAIN), pushed=st.booleans(), ago=DELAYS)
    def comes_again(self, pick: int, kind: str, pushed: bool, ago: float) -> None:
        """A message that was seen before: reported again, doubled in its folder, moved, renumbered, or sent twice."""
        message, keys = self.history[-1 - pick % len(self.history)]
        if kind == "again":
            self.deliver(replace(message, seen=self.now.plus(-ago)), keys, pushed)
        elif kind == "double" or CHANNELS[message.channel].kind is not ChannelKind.EMAIL:
            self.comes(message.channel, keys, pushed, ago, sender=message.sender)
        else:
            folder = {"twin": message.id.rpartition(".")[0], "moved": "Junk/1", "reset": "INBOX/2"}[kind]
            self.comes(message.channel, keys, pushed, ago, folder=folder, print_of=message, sender=message.sender)

    def comes(self, name: str, keys: tuple[Found, ...], pushed: bool, ago: float, *, state: str = "fine",
              folder: str = "INBOX/1", print_of: Message | None = None, sender: str = SENDER) -> None:  # fmt: skip
        self.number += 1
        mail = CHANNELS[name].kind is ChannelKind.EMAIL
        name_of_it = f"{folder}.{self.number}" if mail else f"17.{self.number}"
        fingerprint = print_of.fingerprint if print_of else f"hash{self.number}" if mail else name_of_it
        seen = self.now.plus(-ago)
        message = Message(
            channel=name, id=name_of_it, fingerprint=fingerprint,
            texts=("torn",) if state == "damaged" else (FINE,), sender=sender, recipients=(), seen=seen,
            how=How.PUSH if pushed else How.POLL, misplaced=state == "misplaced",
            stamp=None if mail else Stamp(self.provider_clock(seen.plus(-0.25)), 1.0, "provider"),
        )  # fmt: skip
        self.history.append((message, keys))
        self.deliver(message, keys, pushed)

    def deliver(self, message: Message, keys: tuple[Found, ...], pushed: bool) -> None:
        """Push it now, or let the next read find it."""
        if not pushed:
            self.pending.append((message, keys))
            return
        self.reference.turn += 1
        noticed = (observing.Noticed(message, keys),)
        self.write(observing.record, HERE, observing.Observed("any", noticed, CHANNELS), self.now)
        cover = self.reference.coverage.get(message.channel)
        self.reference.record(self.sight(message, keys, cover.mark if cover else None), self.now)

    def sight(self, message: Message, keys: tuple[Found, ...], lower: Instant | None) -> Sight:
        """The message as the reference keeps it."""
        standing = {key.standing for key in keys}
        bad = "forged" if Standing.FORGED in standing else "foreign" if Standing.FOREIGN in standing else ""
        return Sight(
            message.channel, message.id, message.fingerprint,
            genuine=tuple(key.value for key in keys if key.standing is Standing.GENUINE),
            unsigned=tuple(key.value for key in keys if key.standing is Standing.UNSIGNED),
            bad=bad, old=any((key.minted_at or self.now.wall) < self.now.wall - 30 * 86400 for key in keys),
            allowed=message.sender == SENDER, lower=lower, upper=message.seen, how=message.how.value,
            misplaced=message.misplaced, damaged=FINE not in message.texts,
            stamp=message.stamp.at if message.stamp else None,
        )  # fmt: skip

    @rule(
        observer=st.sampled_from(["mailbox", "app"]),
        lag=DELAYS,
        continues=st.sampled_from([True, True, True, True, True, False]),
        with_control=st.booleans(),
        hidden=st.sampled_from([None, None, "mail2", "slack"]),
    )
    def read(self, observer: str, lag: float, continues: bool, with_control: bool, hidden: str | None = None) -> None:
        """A complete read: what it found, how far it saw, whether it continues the last one; one channel may hide."""
        self.reference.turn += 1
        served = [name for name, channel in CHANNELS.items() if channel.observer == observer]
        names = [name for name in served if name != hidden]
        blind = {name: Blindness("missing_access", "", self.now.plus(-lag)) for name in served if name == hidden}
        reading = Reading(self.now.plus(-lag), self.now, continues)
        found = [(replace(m, seen=self.now), keys) for m, keys in self.pending if m.channel in names]
        self.pending = [(m, keys) for m, keys in self.pending if m.channel not in names]
        self.number += 1
        controls: tuple[Control, ...] = ()
        if with_control and observer == "app":
            sent, stamped = self.now.plus(-0.5), self.now.plus(-0.25)
            stamp = Stamp(self.provider_clock(stamped), 1.0, "provider")
            controls = (Control("slack", sent, self.now, stamp),)
            self.reference.control("provider", sent, self.now, stamp.at, 1.0)
        observed = observing.Observed(
            observer, tuple(observing.Noticed(m, keys) for m, keys in found), CHANNELS, self.cursors[observer],
            str(self.number), dict.fromkeys(names, reading), controls, blind,
        )  # fmt: skip
        self.write(observing.record, HERE, observed, self.now)
        self.cursors[observer] = str(self.number)
        for message, keys in found:
            cover = self.reference.coverage.get(message.channel)
            self.reference.record(self.sight(message, keys, cover.mark if cover and continues else None), self.now)
        self.begun_anew |= set() if continues else set(names)
        for name in names:
            self.reference.read(name, reading.started, continues=continues)
            self.reference.failed_read.pop(name, None)
        self.reference.failed_read.pop(observer, None)
        self.reference.failed_read |= {name: blindness.begun for name, blindness in blind.items()}

    def read_from_a_stale_cursor(self, observer: str) -> None:
        """Another process has read meanwhile: nothing of this read counts."""
        reading = Reading(self.now, self.now, continues=True)
        names = [name for name, channel in CHANNELS.items() if channel.observer == observer]
        observed = observing.Observed(observer, (), CHANNELS, "stale", "x", dict.fromkeys(names, reading))
        with pytest.raises(observing.CursorMoved):
            self.write(observing.record, HERE, observed, self.now)

    @rule(observer=st.sampled_from(["mailbox", "app"]), lag=DELAYS)
    def read_fails(self, observer: str, lag: float) -> None:
        begun = self.now.plus(-lag)
        record = partial(observing.record_unreadable, now=self.now)
        self.write(record, HERE, observer, Unreadable("login_refused"), begun)
        self.reference.failed_read[observer] = begun

"""The nouns: frozen values without I/O. The words are the glossary's, letter for letter.

Durations are seconds. The enums are closed and are API: they are also the metrics' labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prober.clock import Instant


class PublicationKind(StrEnum):
    """What a probe asks the target for."""

    NEWSLETTER = "newsletter"
    ALERT = "alert"
    DIGEST = "digest"
    MANUAL = "manual"


class ChannelKind(StrEnum):
    """What sort of place a channel is."""

    EMAIL = "email"
    SLACK = "slack"
    DISCORD = "discord"


class SlotState(StrEnum):
    """What became of a slot: planned or started, or the reason why it was not run."""

    PLANNED = "planned"
    STARTED = "started"
    LATE = "late"
    DOWN = "down"
    BUDGET = "budget"
    MAINTENANCE = "maintenance"
    KILLED = "killed"
    UPSTREAM_5XX = "upstream_5xx"


class PublishResult(StrEnum):
    """How a publish step ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"
    OWN_FAULT = "own_fault"


class Timeliness(StrEnum):
    """Was it visible within the deadline?"""

    ON_TIME = "on_time"
    OVERDUE = "overdue"
    EARLY = "early"
    AMBIGUOUS = "ambiguous"
    MOOT = "moot"
    VOID = "void"


class Outcome(StrEnum):
    """What became of a delivery in the end?"""

    DELIVERED = "delivered"
    DAMAGED = "damaged"
    MISPLACED = "misplaced"
    LOST = "lost"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    UNWANTED = "unwanted"
    WITHHELD = "withheld"
    VOID = "void"


class VoidReason(StrEnum):
    """Why nothing is said about the target."""

    BLIND = "blind"
    NO_COVERAGE = "no_coverage"
    OWN_FAULT = "own_fault"
    WORLD_GONE = "world_gone"
    STOP_TOO_LATE = "stop_too_late"


class StrayReason(StrEnum):
    """Why a message that carries keys counts for no delivery."""

    FORGED = "forged"
    EXPIRED = "expired"
    FOREIGN = "foreign"
    REPLAYED = "replayed"
    AFTER_REFUSAL = "after_refusal"
    AFTER_HORIZON = "after_horizon"
    UNMATCHED = "unmatched"


class How(StrEnum):
    """How a message was seen: pushed to us, found by a periodic read, or found later in the history."""

    PUSH = "push"
    POLL = "poll"
    HISTORY = "history"


class KeyKind(StrEnum):
    """What sort of key a message is recognised by."""

    MARKER = "marker"
    CONTENT_ID = "content_id"
    PLUS_TAG = "plus_tag"
    PUBLICATION_ID = "publication_id"
    MESSAGE_ID = "message_id"


class Arrive(StrEnum):
    """Whether a delivery is expected, or expected not to come."""

    ALWAYS = "always"
    NEVER = "never"


class StepAction(StrEnum):
    """What one step asks of the target."""

    CREATE = "create"
    SEND = "send"
    CANCEL = "cancel"


class StepState(StrEnum):
    """How far a step has come; ``taken`` is on record before the request leaves."""

    PLANNED = "planned"
    TAKEN = "taken"
    ANSWERED = "answered"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """A content check on arrival: ``text`` must be present in what a person reads."""

    text: str


@dataclass(frozen=True, slots=True)
class Channel:
    """One configured place where messages become visible.

    ``address`` is the e-mail address, Slack channel id or Discord channel id; ``target_channel`` the target's own
    channel object that feeds it; ``senders`` the senders from whom a message known only by an unsigned id is
    believed (addresses, domains as ``@example.org``, Slack bot or user ids, Discord author ids; empty: all).
    """

    name: str
    kind: ChannelKind
    observer: str
    address: str
    target_channel: str = ""
    senders: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What the name stands for: another world behind an old name has another identity."""
        return f"{self.kind}:{self.address}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a scenario runs: every so many seconds, or by a cron expression in a time zone."""

    every: float | None = None
    cron: str | None = None
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Content:
    """What a probe publishes: the target's template by name, its text, and what must be readable on arrival."""

    name: str
    template: str
    subject: str
    text: str
    expect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A declared, recurring question to the target. Durations in seconds.

    ``channels`` names channels, kinds (the next unused channel of that kind) or ``all``; ``scheduled_after`` asks
    for the publication at a time that lies so far ahead.
    """

    name: str
    description: str
    kind: PublicationKind
    channels: tuple[str, ...]
    within: float
    give_up: float
    content: Content
    priority: str = ""
    scheduled_after: float | None = None
    arrive: Arrive = Arrive.ALWAYS
    cancel_after: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    tags: frozenset[str] = frozenset()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """What a probe asks the target for; every text that the target lets through stands here.

    ``scheduled_time`` is a wall time in seconds since 1970, None for at once. ``trace_id`` is 32, ``span_id`` 16
    lower-case hexadecimal digits (W3C trace context).
    """

    probe: str
    scenario: str
    kind: PublicationKind
    target_channels: tuple[str, ...]
    content_id: str
    marker: str
    priority: str = ""
    template_id: str = ""
    subject: str = ""
    text: str = ""
    scheduled_time: float | None = None
    correlation_id: str = ""
    trace_id: str = ""
    span_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a publication. ``recipient`` is the one address of a ``send``."""

    probe: str
    number: int
    action: StepAction
    recipient: str = ""
    publication_id: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """Anything by which a message is recognised as a probe's. ``channel`` is empty where it serves all of them."""

    kind: KeyKind
    value: str
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A time-stamped fact on the way, on somebody's clock: ``at`` is wall time, ``source`` says whose.

    ``detail`` is what the source says of it, in a sentence: shown, and never a verdict.
    """

    name: str
    at: float
    source: str
    resolution: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Hearsay:
    """What a provider says of one mail on its way: a waypoint, never proof of delivery nor of its absence.

    ``texts`` are where keys may stand (headers, tags, message id), ``recipients`` the addresses, lower-cased, of
    which it speaks; ``receipt`` is what its witness forgets it by.
    """

    waypoint: Waypoint
    texts: tuple[str, ...]
    recipients: tuple[str, ...]
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target answered to a step that it accepted.

    ``requested_at`` is the instant just before the first byte on an open connection; ``learned`` the keys that the
    answer told; ``publication_id`` the target's id for the publication, for later steps.
    """

    status: int
    requested_at: Instant
    answered_at: Instant
    publication_id: str = ""
    learned: tuple[Key, ...] = ()
    correlation_id: str = ""
    waypoints: tuple[Waypoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Stamp:
    """A provider's own time stamp of a message: wall seconds on the clock that ``source`` names."""

    at: float
    resolution: float
    source: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message that an observer saw, decoded, before anybody looked for keys.

    ``id`` is unique on the channel for ever (mail: folder, UIDVALIDITY and UID; Slack: ts; Discord: snowflake).
    ``fingerprint`` stays the same when a mail is moved (a hash of its header block); elsewhere it equals ``id``.
    ``texts`` are all decoded texts, links percent-decoded, bounded in size; ``seen`` is an upper bound: the instant
    at which the push frame, or the end of the read that showed it, was in our hands. ``broadcast``: it shows on the
    channel what was said in a thread; it is recorded, and never a first sighting.
    """

    channel: str
    id: str
    fingerprint: str
    texts: tuple[str, ...]
    sender: str
    recipients: tuple[str, ...]
    seen: Instant
    how: How
    misplaced: bool = False
    stamp: Stamp | None = None
    waypoints: tuple[Waypoint, ...] = ()
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """That a channel was read completely: everything visible at ``started`` is on record.

    ``continues`` says that nothing was missed since the cursor's last reading; False begins a new ``since``.
    """

    started: Instant
    ended: Instant
    continues: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A message of our own, posted through the same provider, and the stamp that its clock gave it.

    ``id`` is the message's, as in :class:`Message`; '' where the provider told none. ``shown``: its push came before
    the answer.
    """

    channel: str
    sent: Instant
    answered: Instant
    stamp: Stamp
    id: str = ""
    shown: ControlSeen | None = None


@dataclass(frozen=True, slots=True)
class ControlSeen:
    """That a control message was seen on its channel, as a :class:`Message` is."""

    channel: str
    id: str
    seen: Instant
    how: How


@dataclass(frozen=True, slots=True)
class Blindness:
    """That one channel could not be read: a stable word, a sentence with the mend, and when that read began."""

    reason: str
    detail: str
    begun: Instant


@dataclass(frozen=True, slots=True)
class Batch:
    """What one complete read returned: every message after the cursor, the new cursor, what was read.

    ``blind`` are the channels that the read could not see, while it saw others; a channel that is in neither was left
    out for the provider's limits. ``controls`` were posted by this read, ``controls_seen`` are those that it showed.
    """

    messages: tuple[Message, ...]
    cursor: str
    readings: Mapping[str, Reading]
    controls: tuple[Control, ...] = ()
    blind: Mapping[str, Blindness] = field(default_factory=dict)
    controls_seen: tuple[ControlSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Wake:
    """Why a wait ended: messages that were pushed whole, and whether only a read can tell what is new."""

    pushed: tuple[Message, ...] = ()
    unread: bool = False
    controls_seen: tuple[ControlSeen, ...] = ()


Settings = Mapping[str, Any]
"""An adapter's own part of the configuration, already resolved."""

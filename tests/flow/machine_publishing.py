"""Half of the ledger's state machine: a clock that steps and reboots, plan and publish."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sqlalchemy import event

from prober.clock import Instant
from prober.errors import OwnFault, Refused, TargetError, Unanswered, Unreachable
from prober.ledger import planning, publishing
from prober.ledger.opening import open_for_writing
from prober.marker import Found
from prober.model import (
    Answer,
    Arrive,
    Channel,
    ChannelKind,
    Key,
    KeyKind,
    Message,
    Publication,
    PublicationKind,
    Step,
    StepAction,
)
from tests.flow.recount import beside
from tests.flow.reference import Act, Expectation, Reference

HERE = "here"
WALL = 1_800_000_000.0
WITHIN, LATE_AFTER = 8.0, 5.0
FINE, SENDER = "No action is needed.", "probe@target.example"
PROVIDER_AHEAD = 1000.5
CHANNELS = {
    "mail": Channel("mail", ChannelKind.EMAIL, "mailbox", "a@x.example", senders=(SENDER,)),
    "mail2": Channel("mail2", ChannelKind.EMAIL, "mailbox", "b@x.example", senders=(SENDER,)),
    "slack": Channel("slack", ChannelKind.SLACK, "app", "C1", senders=(SENDER,)),
}
SERVED = {channel.identity for channel in CHANNELS.values()}
ENDS = ["refused", "error", "timeout", "unreachable", "own_fault"]
DELAYS = st.sampled_from([0.0, 0.25, 0.5, 2.0])
PICK = st.integers(0, 11)


def failure(kind: str, requested: Instant, now: Instant) -> TargetError:
    """The error of a step, by its publish result."""
    if kind == "refused":
        return Refused("no", status=400, requested_at=requested, answered_at=now)
    if kind == "error":
        return Unanswered("oops", status=500, requested_at=requested, answered_at=now)
    if kind == "timeout":
        return Unanswered("silence", timeout=True, requested_at=requested)
    return Unreachable("refused connection") if kind == "unreachable" else OwnFault("our DNS")


class PublishingMachine(RuleBasedStateMachine):
    """Time, processes that die, plans, claims and how steps end."""

    def open_ledger(self, empty: Callable[[Path], str]) -> None:
        """The ledger at the place that ``empty`` makes, the clock, and the reference beside them."""
        self.folder = tempfile.mkdtemp()
        place = empty(Path(self.folder))
        self.engine = open_for_writing(place)
        if "://" not in place:
            event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close())
        self.conn = self.engine.connect()
        self.beside = beside(place)
        self.now = Instant(WALL, 100.0, "boot1")
        self.boots, self.lives, self.number = 1, 1, 0
        self.reference = Reference(observer_of={name: channel.observer for name, channel in CHANNELS.items()})
        self.cursors: dict[str, str | None] = {"mailbox": None, "app": None}
        self.drafts: list[planning.PlannedProbe] = []
        self.pending: list[tuple[Message, tuple[Found, ...]]] = []
        self.history: list[tuple[Message, tuple[Found, ...]]] = []
        self.elapsed, self.provider_ahead = 0.0, PROVIDER_AHEAD
        self.written: dict[int, dict[str, Any]] = {}
        self.spans: dict[str, tuple[float, str, float, float]] = {}
        self.begun_anew: set[str] = set()
        self.taken: dict[tuple[str, int], Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "conn"):
            self.conn.close()
            self.beside.close()
            self.engine.dispose()
            shutil.rmtree(self.folder)

    def write(self, act: Any, *args: Any) -> Any:
        with self.conn.begin():
            return act(self.conn, *args)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 601.0]))
    def advance(self, seconds: float) -> None:
        self.now = self.now.plus(seconds)
        self.elapsed += seconds

    def new_process(self, reboot: bool) -> None:
        """The process died; its steps under way are interrupted."""
        self.lives += 1
        if reboot:
            self.boots += 1
            self.now = Instant(self.now.wall + 20, 5.0, f"boot{self.boots}")
            self.elapsed += 20
        life = str(self.lives)
        under_way = list(self.reference.each(lambda act: act.taken is not None and not act.result))
        assert self.write(publishing.record_interrupted, HERE, self.now, lambda by, _taken: by == life) == len(
            under_way
        )
        for probe, act in under_way:
            self.reference.end(probe, act, "interrupted", None, self.now)

    def plan(self, names: tuple[str, ...], kind: str, send: bool, give_up: float) -> None:
        """Perhaps with a sending step per mail, perhaps for later, perhaps stopped before its time."""
        self.number += 1
        probe, due = f"p{self.number}", self.now.plus(2.0 if kind == "later" else 0.0)
        scheduled = self.now.wall + 12 if kind in {"scheduled", "never"} else None
        first = planning.PlannedStep(0, StepAction.CREATE, due, LATE_AFTER)
        acts = {0: Act(0, due, LATE_AFTER)}
        planned = [first]
        sends = {}
        for name in names:
            if send and CHANNELS[name].kind is ChannelKind.EMAIL:
                number = len(planned)
                planned.append(planning.PlannedStep(number, StepAction.SEND, due, LATE_AFTER, "a@x", after_step=0))
                acts[number] = Act(number, due, LATE_AFTER, acts[0], name)
                sends[name] = number
        stop = None
        if kind == "never":
            stop = len(planned)
            planned.append(planning.PlannedStep(stop, StepAction.CANCEL, due.plus(4.0), LATE_AFTER, after_step=0))
            acts[stop] = Act(stop, due.plus(4.0), LATE_AFTER, acts[0])
        draft = planning.PlannedProbe(
            id=probe, location=HERE, scenario="s", slot=float(self.number), run="", number=0,
            publication=Publication(probe, "s", PublicationKind.ALERT, (), f"c-{probe}", f"m-{probe}",
                                    scheduled_time=scheduled),
            planned=self.now, steps=tuple(planned),
            deliveries=tuple(
                planning.PlannedDelivery(CHANNELS[name], WITHIN, give_up, (FINE,), sends.get(name, 0),
                                         Arrive.NEVER if kind == "never" else Arrive.ALWAYS, stop)
                for name in names
            ),
            keys=(Key(KeyKind.MARKER, f"m-{probe}"), Key(KeyKind.CONTENT_ID, f"c-{probe}")),
        )  # fmt: skip
        assert self.write(planning.plan_probes, [draft]) == (probe,)
        self.drafts.append(draft)
        self.reference.acts |= {(probe, number): act for number, act in acts.items()}
        self.reference.keys += [(f"m-{probe}", probe, ""), (f"c-{probe}", probe, "")]
        self.reference.expectations += [
            Expectation(probe, name, WITHIN, give_up, kind == "never", scheduled, acts[sends.get(name, 0)],
                        None if stop is None else acts[stop])
            for name in names
        ]  # fmt: skip

    @rule()
    def claim(self) -> None:
        claimed = self.write(publishing.claim_steps, HERE, self.now, str(self.lives))
        assert {(c.step.probe, c.step.number) for c in claimed.steps} == self.reference.claim(self.now)

    def under_way(self) -> list[tuple[str, Act]]:
        return list(self.reference.each(lambda act: act.taken is not None and not act.result))

    @precondition(lambda self: self.under_way())
    @rule(pick=PICK, ago=DELAYS)
    def answer(self, pick: int, ago: float) -> None:
        """The step is accepted; a create tells the publication's id, a sending step the message's."""
        acts = self.under_way()
        probe, act = acts[pick % len(acts)]
        requested = self.requested(act, ago)
        self.told(probe, act, requested)
        self.reference.end(probe, act, "accepted", requested, self.now)
        self.reference.learn(self.learned(probe, act))

    @precondition(lambda self: any(True for _ in self.reference.each(lambda act: act.result == "interrupted")))
    @rule(pick=PICK)
    def answer_of_the_dead(self, pick: int) -> None:
        """A process that was taken for dead puts its answer on record: its keys help, its step has ended."""
        acts = list(self.reference.each(lambda act: act.result == "interrupted" and act.taken is not None))
        probe, act = acts[pick % len(acts)]
        self.told(probe, act, self.now)
        self.reference.learn(self.learned(probe, act))

    def told(self, probe: str, act: Act, requested: Instant) -> None:
        learned = tuple(
            Key(KeyKind.MESSAGE_ID if channel else KeyKind.PUBLICATION_ID, value, channel)
            for value, _, channel in self.learned(probe, act)
        )
        known = f"u-{probe}" if act.number == 0 else ""
        step = Step(probe, act.number, StepAction.CREATE)
        self.write(publishing.record_answer, step, Answer(200, requested, self.now, known, learned))

    def learned(self, probe: str, act: Act) -> list[tuple[str, str, str]]:
        if act.channel:
            return [(f"i-{probe}-{act.channel}", probe, act.channel), (f"u-{probe}", probe, "")]
        return [(f"u-{probe}", probe, "")] if act.number == 0 else []

    def requested(self, act: Act, ago: float) -> Instant:
        assert act.taken is not None
        return self.now.plus(-min(ago, max(0.0, self.now.since(act.taken))))

    @precondition(lambda self: self.under_way())
    @rule(pick=PICK, kind=st.sampled_from(ENDS), ago=DELAYS)
    def fail(self, pick: int, kind: str, ago: float) -> None:
        acts = self.under_way()
        probe, act = acts[pick % len(acts)]
        error = failure(kind, self.requested(act, ago), self.now)
        self.write(publishing.record_failure, Step(probe, act.number, StepAction.CREATE), error, self.now)
        self.reference.end(probe, act, kind, error.requested_at, self.now)

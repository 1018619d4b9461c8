"""The ledger's transactions in any order, beside a reference that answers every question anew."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, Row, event, select

from prober.clock import Instant
from prober.errors import OwnFault, Refused, TargetError, Unanswered, Unreachable, Unreadable
from prober.ledger import observing, planning, publishing, settling
from prober.ledger.opening import open_for_writing
from prober.ledger.tables import coverage, deliveries, instant_of, observers, steps
from prober.marker import Found, Standing
from prober.model import (
    Answer,
    Arrive,
    Channel,
    ChannelKind,
    Control,
    How,
    Key,
    KeyKind,
    Message,
    Publication,
    PublicationKind,
    Reading,
    Stamp,
    Step,
    StepAction,
)
from prober.stages import decide
from tests.flow.recount import assert_whole, recount
from tests.flow.reference import Act, Expectation, Reference, Sight

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
SUBSETS = [("mail",), ("slack",), ("mail", "slack"), ("mail", "mail2", "slack")]
ENDS = ["refused", "error", "timeout", "unreachable", "own_fault"]
DELAYS = st.sampled_from([0.0, 0.25, 0.5, 2.0])
PICK = st.integers(0, 11)


@pytest.fixture(scope="module")
def template() -> Any:
    """An empty ledger, migrated once and copied for each example."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "empty.sqlite"
        open_for_writing(str(place)).dispose()
        yield place


def failure(kind: str, requested: Instant, now: Instant) -> TargetError:
    """The error of a step, by its publish result."""
    if kind == "refused":
        return Refused("no", status=400, requested_at=requested, answered_at=now)
    if kind == "error":
        return Unanswered("oops", status=500, requested_at=requested, answered_at=now)
    if kind == "timeout":
        return Unanswered("silence", timeout=True, requested_at=requested)
    return Unreachable("refused connection") if kind == "unreachable" else OwnFault("our DNS")


class LedgerMachine(RuleBasedStateMachine):
    """Plan, claim, answer, see, read and settle in any order, on a clock that steps and reboots."""

    empty: Path

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.mkdtemp()
        place = Path(self.folder) / "ledger.sqlite"
        shutil.copy(self.empty, place)
        self.engine = open_for_writing(str(place))
        event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close())
        self.conn = self.engine.connect()
        self.now = Instant(WALL, 100.0, "boot1")
        self.boots, self.lives, self.number = 1, 1, 0
        self.reference = Reference(observer_of={name: channel.observer for name, channel in CHANNELS.items()})
        self.cursors: dict[str, str | None] = {"mailbox": None, "app": None}
        self.drafts: list[planning.PlannedProbe] = []
        self.pending: list[tuple[Message, tuple[Found, ...]]] = []
        self.history: list[tuple[Message, tuple[Found, ...]]] = []
        self.elapsed, self.provider_ahead = 0.0, PROVIDER_AHEAD
        self.written: dict[int, dict[str, Any]] = {}
        self.marks: dict[str, tuple[Instant, Instant]] = {}
        self.begun_anew: set[str] = set()
        self.taken: dict[tuple[str, int], Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "conn"):
            self.conn.close()
            self.engine.dispose()
            shutil.rmtree(self.folder)

    def write(self, act: Any, *args: Any) -> Any:
        with self.conn.begin():
            return act(self.conn, *args)

    # time

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 4.0, 8.0, 16.0, 60.0, 601.0]))
    def advance(self, seconds: float) -> None:
        self.now = self.now.plus(seconds)
        self.elapsed += seconds

    @rule(seconds=st.sampled_from([0.25, 1.0, 8.0, 24.0, 100.0]), continues=st.booleans())
    def passes(self, seconds: float, continues: bool) -> None:
        """A while in which every stage does a pass and nothing new comes."""
        self.advance(seconds)
        self.claim()
        for observer in self.cursors:
            self.read(observer, 0.0, continues or observer == "app", with_control=True)
        self.settle(None)

    @rule(
        what=st.sampled_from(["new process", "reboot", "wall", "provider", "stale", "plan again"]),
        seconds=st.sampled_from([-3600.0, -60.0, -7.0, 7.0, 60.0, 86400.0]),
        pick=PICK,
    )
    def happens_rarely(self, what: str, seconds: float, pick: int) -> None:
        """A new life, a clock that steps, a read from a cursor that was moved, a probe that is planned twice."""
        if what in {"new process", "reboot"}:
            self.new_process(what == "reboot")
        elif what == "wall" and self.boots == 1:  # across boots the wall clock is the only measure: it must be right
            self.now = replace(self.now, wall=self.now.wall + seconds)
        elif what == "provider":
            self.provider_ahead += seconds
        elif what == "stale":
            self.read_from_a_stale_cursor("app")
        elif self.drafts:
            assert self.write(planning.plan_probes, [self.drafts[pick % len(self.drafts)]]) == ()

    def new_process(self, reboot: bool) -> None:
        """The process died; its steps under way are interrupted."""
        self.lives += 1
        if reboot:
            self.boots += 1
            self.now = Instant(self.now.wall + 20, 5.0, f"boot{self.boots}")
            self.elapsed += 20
        life = str(self.lives)
        under_way = list(self.reference.each(lambda act: act.taken is not None and not act.result))
        assert self.write(publishing.record_interrupted, HERE, self.now, lambda by: by == life) == len(under_way)
        for probe, act in under_way:
            self.reference.end(probe, act, "interrupted", None, self.now)

    # plan and publish

    @rule(
        names=st.sampled_from(SUBSETS),
        kind=st.sampled_from(["now", "now", "now", "later", "scheduled", "never"]),
        send=st.booleans(),
        give_up=st.sampled_from([16.0, 24.0, 800.0]),
        end=st.sampled_from(["accepted", "accepted", "error", "timeout", "dies", *ENDS, "open"]),
        sent=st.sampled_from(["accepted", *ENDS, "dies", "open"]),
    )
    def probe(self, names: tuple[str, ...], kind: str, send: bool, give_up: float, end: str, sent: str) -> None:
        """A probe planned and, unless it is for later, published: how its request and a sending step end."""
        self.plan(names, kind, send, give_up)
        for result in () if kind == "later" else (end, sent):
            self.claim()
            if result == "dies":
                self.new_process(reboot=False)
            for number in range(len(self.under_way()) if result in {"accepted", *ENDS} else 0):
                self.advance(0.5)
                self.answer(number, 0.25) if result == "accepted" else self.fail(number, result, 0.25)

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
            return [(f"i-{probe}-{act.channel}", probe, act.channel)]
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

    # observe

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
        kind=st.sampled_from(["marker", "marker", "content", "publication", "publication", "message", "both"]),
        state=st.sampled_from(["fine", "fine", "damaged", "misplaced"]),
        pushed=st.booleans(),
        ago=DELAYS,
    )
    def arrives(self, elsewhere: str | None, pick: int, kind: str, state: str, pushed: bool, ago: float) -> None:
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
    @rule(pick=PICK, kind=st.sampled_from(["again", "twin", "moved", "reset", "double"]), pushed=st.booleans(), ago=DELAYS)
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
        continues=st.sampled_from([True, True, True, False]),
        with_control=st.booleans(),
    )
    def read(self, observer: str, lag: float, continues: bool, with_control: bool) -> None:
        """A complete read: what it found, how far it saw, whether it continues the last one."""
        names = [name for name, channel in CHANNELS.items() if channel.observer == observer]
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
            str(self.number), dict.fromkeys(names, reading), controls,
        )  # fmt: skip
        self.write(observing.record, HERE, observed, self.now)
        self.cursors[observer] = str(self.number)
        for message, keys in found:
            cover = self.reference.coverage.get(message.channel)
            self.reference.record(self.sight(message, keys, cover.mark if cover and continues else None), self.now)
        self.begun_anew |= set() if continues else set(names)
        for name in names:
            self.reference.read(name, reading.started, continues=continues)
        self.reference.failed_read.pop(observer, None)

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
        self.write(observing.record_unreadable, HERE, observer, Unreadable("login_refused"), begun)
        self.reference.failed_read[observer] = begun

    # settle

    @rule(gone=st.sampled_from([None, None, None, "slack", "mail"]))
    def settle(self, gone: str | None) -> None:
        """Every verdict is the reference's, written as soon as it is certain and with the same interval."""
        names = set(CHANNELS) - {gone}
        served = {CHANNELS[name].identity for name in names}
        self.write(observing.expire_candidates, HERE, self.now)
        self.write(settling.settle_due, HERE, self.now, served, decide)
        self.reference.settle(self.now, names)
        with self.conn.begin():
            rows = self.conn.execute(select(deliveries)).all()
        mine = {(row.probe_id, row.channel): row for row in rows}
        for e in self.reference.expectations:
            self.agrees(e, mine[e.probe, e.channel])

    def agrees(self, e: Expectation, row: Row[Any]) -> None:
        found = [
            None if verdict is None else (verdict, reason if verdict == "void" else "")
            for verdict, reason in [(row.timeliness, row.timeliness_reason), (row.outcome, row.outcome_reason)]
        ]
        assert found == [e.timeliness, e.outcome], (e, row)
        assert (row.latency_upper is None) == (e.latency is None), (e, row)
        if e.latency is not None:
            assert (row.latency_lower, row.latency_upper) == pytest.approx(e.latency[:2], abs=1e-5), (e, row)

    # what holds after every step

    @invariant()
    def holds(self) -> None:
        with self.conn.begin():
            assert_whole(self.conn)
            self.verdicts_are_final(self.conn)
            self.facts_move_forward(self.conn)
            self.copies_and_strays_agree(self.conn)

    def verdicts_are_final(self, conn: Connection) -> None:
        for row in conn.execute(select(deliveries)).all():
            answers = {
                name: value
                for name, value in row._mapping.items()
                if name.startswith(("timeliness", "outcome", "latency")) and value not in {None, ""}
            }
            before = self.written.setdefault(row.id, {})
            assert before.items() <= answers.items(), (before, answers)
            self.written[row.id] = answers

    def facts_move_forward(self, conn: Connection) -> None:
        for row in conn.execute(select(coverage)).all():
            since, mark = instant_of(row, "since"), instant_of(row, "watermark")
            assert since is not None
            assert mark is not None
            assert mark.since(since) >= 0
            old = self.marks.get(row.channel)
            assert old is None or row.channel in self.begun_anew or (old[0] == since and mark.since(old[1]) >= 0)
            self.marks[row.channel] = since, mark
        self.begun_anew.clear()
        on_record = {row.name: row.cursor for row in conn.execute(select(observers)).all()}
        assert all(on_record.get(name) == cursor for name, cursor in self.cursors.items())
        for row in conn.execute(select(steps).where(steps.c.taken_wall.is_not(None))).all():
            taken = (row.taken_by, row.taken_wall, row.taken_boottime)
            assert self.taken.setdefault((row.probe_id, row.number), taken) == taken

    def copies_and_strays_agree(self, conn: Connection) -> None:
        rows = conn.execute(select(deliveries.c.probe_id, deliveries.c.channel, deliveries.c.copies)).all()
        copies = {(row.probe_id, row.channel): row.copies for row in rows}
        assert copies == {(e.probe, e.channel): e.copies for e in self.reference.expectations}
        found: Counter[tuple[str, str]] = Counter()
        for (name, labels), value in recount(conn).items():
            if name == "strays_total":
                found[dict(labels)["channel"], dict(labels)["reason"]] += int(value)
        assert found == Counter(self.reference.strays)


@pytest.fixture
def machine(template: Path) -> type[LedgerMachine]:
    return type("Machine", (LedgerMachine,), {"empty": template})


def test_model(machine: type[LedgerMachine]) -> None:
    """Whatever happens in whatever order, every verdict is the reference's and every sum holds."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

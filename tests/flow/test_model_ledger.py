"""The ledger's transactions in any order, beside a reference that answers every question anew."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from prober.ledger import observing, planning, settling
from prober.ledger.opening import open_for_writing
from prober.stages import decide
from tests.flow.machine_observing import AGAIN, KEYS, ObservingMachine
from tests.flow.machine_publishing import CHANNELS, ENDS, HERE, PICK
from tests.flow.recount import assert_whole, rows
from tests.flow.reference import Expectation
from tests.servers.postgresql import Postgresql

SUBSETS = [("mail",), ("slack",), ("mail", "slack"), ("mail", "mail2", "slack")]
Arrival = tuple[float, int, str, str, bool]
"""Seconds to wait, which probe, by which key or again in which way, and whether it is pushed."""

ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 3.0, 8.0]),
        PICK,
        st.sampled_from(KEYS),
        st.sampled_from(["", "", *AGAIN]),
        st.booleans(),
    ),
    max_size=3,
)


class LedgerMachine(ObservingMachine):
    """Plan, claim, answer, see, read and settle in any order, on a clock that steps and reboots."""

    empty: Callable[[Path], str]

    @initialize(looked=st.sampled_from([True, True, True, False]))
    def open(self, looked: bool) -> None:
        """Begin, mostly with observers that have looked once."""
        self.open_ledger(type(self).empty)
        for observer in self.cursors if looked else ():
            self.read(observer, 0.0, continues=True, with_control=True)

    @rule(
        names=st.sampled_from(SUBSETS),
        kind=st.sampled_from(["now", "now", "now", "later", "scheduled", "never"]),
        send=st.booleans(),
        give_up=st.sampled_from([16.0, 24.0, 800.0]),
        end=st.sampled_from([*["accepted"] * 8, *ENDS, "error", "timeout", "dies", "dies", "dies", "open"]),
        sent=st.sampled_from([*["accepted"] * 4, *ENDS, "dies", "open"]),
        early=ARRIVALS,
        late=ARRIVALS,
    )
    def probe(self, *, names: tuple[str, ...], kind: str, send: bool, give_up: float, end: str, sent: str,
              early: list[Arrival], late: list[Arrival]) -> None:  # fmt: skip
        """A probe planned and, unless it is for later, published: how its steps end, and what then arrives."""
        self.plan(names, kind, send, give_up)
        if kind != "later":
            self.claim()
            self.arrive(early)
            self.publish(end, sent)
            self.arrive(late)

    def arrive(self, arrivals: list[Arrival]) -> None:
        """Messages of the latest probes, each after a while, new ones and some that were seen before."""
        for wait, pick, key, again, pushed in arrivals:
            self.advance(wait)
            if again and self.history:
                self.comes_again(pick, again, pushed, 0.0)
            else:
                state = "damaged" if wait == 3.0 else "fine"
                self.arrives(elsewhere=None, pick=pick, kind=key, state=state, pushed=pushed, ago=0.25)

    def publish(self, end: str, sent: str) -> None:
        """The first request's end and that of those which wait for it."""
        for result in (end, sent):
            self.claim()
            if result == "dies":
                self.new_process(reboot=False)
            for number in range(len(self.under_way()) if result in {"accepted", *ENDS} else 0):
                self.advance(0.5)
                self.answer(number, 0.25) if result == "accepted" else self.fail(number, result, 0.25)

    @rule(
        seconds=st.sampled_from([1.0, 4.0, 8.0, 24.0, 100.0]),
        blind=st.sampled_from([None, None, None, "mailbox", "app"]),
        gone=st.sampled_from([None, None, None, None, "slack", "mail"]),
    )
    def passes(self, seconds: float, blind: str | None, gone: str | None) -> None:
        """A while in which every stage does a pass and nothing new comes."""
        self.advance(seconds)
        self.claim()
        for observer in self.cursors:
            if observer == blind:
                self.read_fails(observer, 0.0)
            else:
                self.read(observer, 0.0, continues=True, with_control=True)
        self.settle(gone)

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

    @rule(world_gone=st.booleans())
    def calm(self, world_gone: bool) -> None:
        """Nothing new happens for long: whatever is asked has its answer then, be it that we do not know."""
        for seconds in (4.0, 8.0, 1000.0):
            self.new_process(reboot=False)
            self.passes(seconds, None, "slack" if world_gone else None)
        assert not [e for e in self.reference.expectations if e.open]

    @rule(gone=st.sampled_from([None, None, None, "slack", "mail"]))
    def settle(self, gone: str | None) -> None:
        """Every verdict is the reference's, written as soon as it is certain and with the same interval."""
        names = set(CHANNELS) - {gone}
        served = {CHANNELS[name].identity for name in names}
        self.write(observing.expire_candidates, HERE, self.now)
        self.write(settling.settle_due, HERE, self.now, served, decide)
        self.reference.settle(self.now, names)
        found = {(row["probe_id"], row["channel"]): row for row in rows(self.beside, "deliveries")}
        for e in self.reference.expectations:
            self.agrees(e, found[e.probe, e.channel])

    def agrees(self, e: Expectation, row: dict[str, Any]) -> None:
        found = [
            row[name] and (row[name], row[f"{name}_reason"] if row[name] == "void" else "")
            for name in ("timeliness", "outcome")
        ]
        assert found == [e.timeliness, e.outcome], (e, row)
        assert (row["latency_upper"] is None) == (e.latency is None), (e, row)
        if e.latency is not None:
            bounds = (row["latency_lower"], row["latency_upper"])
            assert bounds == pytest.approx(e.latency[:2], abs=1e-5), (e, row)

    @invariant()
    def holds(self) -> None:
        assert_whole(self.beside)
        self.verdicts_are_final()
        self.facts_move_forward()
        self.copies_and_strays_agree()

    def verdicts_are_final(self) -> None:
        for row in rows(self.beside, "deliveries"):
            answers = {
                name: value
                for name, value in row.items()
                if name.startswith(("timeliness", "outcome", "latency")) and value not in {None, ""}
            }
            before = self.written.setdefault(row["id"], {})
            assert before.items() <= answers.items(), (before, answers)
            self.written[row["id"]] = answers

    def facts_move_forward(self) -> None:
        for row in (row for row in rows(self.beside, "coverage") if row["since_boot_id"]):
            span = (row["since_boottime"], row["since_boot_id"], row["watermark_wall"], row["watermark_boottime"])
            old = self.spans.get(row["channel"], span)
            same_boot = row["watermark_boot_id"] == self.now.boot_id
            if row["channel"] not in self.begun_anew:
                assert old[:2] == span[:2]
                assert old[3] <= span[3] or not same_boot or old[2] <= span[2]
            self.spans[row["channel"]] = span
        self.begun_anew.clear()
        cursors = {row["name"]: row["cursor"] for row in rows(self.beside, "observers")}
        assert all(cursors.get(name) == cursor for name, cursor in self.cursors.items())
        for row in rows(self.beside, "steps"):
            taken = (row["taken_by"], row["taken_wall"], row["taken_boottime"])
            if row["taken_wall"] is not None:
                assert self.taken.setdefault((row["probe_id"], row["number"]), taken) == taken

    def copies_and_strays_agree(self) -> None:
        copies = {(row["probe_id"], row["channel"]): row["copies"] for row in rows(self.beside, "deliveries")}
        assert copies == {(e.probe, e.channel): e.copies for e in self.reference.expectations}
        strays = Counter(
            (row["channel"], row["stray"]) for row in rows(self.beside, "sightings") if row["role"] == "stray"
        )
        assert strays == Counter(self.reference.strays)


@pytest.fixture(scope="module")
def template() -> Iterator[Callable[[Path], str]]:
    """Makes an empty ledger in a folder: migrated once and copied for each example."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "empty.sqlite"
        open_for_writing(str(place)).dispose()
        yield lambda into: str(shutil.copy(place, into / "ledger.sqlite"))


def run(empty: Callable[[Path], str], examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    """Run the machine, each example on a ledger that ``empty`` makes."""
    run_state_machine_as_test(
        type("Machine", (LedgerMachine,), {"empty": staticmethod(empty)}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=phases,
        ),
    )


@pytest.mark.timeout(300)
def test_model(template: Callable[[Path], str]) -> None:
    """Whatever happens in whatever order, every verdict is the reference's and every sum holds."""
    run(template, 60)


@pytest.mark.timeout(300)
def test_model_on_postgresql(postgresql_server: Postgresql) -> None:
    """The same on the other database: what it reads, compares and rounds is the same."""
    run(lambda _folder: postgresql_server.database(), 3, [Phase.reuse, Phase.generate])  # a database each is slow

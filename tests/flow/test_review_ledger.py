"""What a stranger's review of the ledger's transactions found: each property failed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select

from prober.clock import Instant
from prober.draft import Drafting, draft_probe
from prober.errors import Unanswered, Unreadable
from prober.ledger import observing, planning, publishing, settling
from prober.ledger.opening import open_for_writing
from prober.ledger.tables import candidates, deliveries, sightings, steps
from prober.model import (
    Answer,
    Batch,
    Channel,
    ChannelKind,
    How,
    Key,
    KeyKind,
    Message,
    Publication,
    Reading,
    Scenario,
    Step,
)
from prober.stages import decide, notice
from tests.flow.rig import KEYRING, LOCATION, SCENARIO, total

pytestmark = pytest.mark.usefixtures("each_database")

START = Instant(1_790_000_000.0, 1000.0, "boot00")
MAIL = Channel("email", ChannelKind.EMAIL, "mailbox", "probe@example.test", "target-1")
OTHER = Channel("email-2", ChannelKind.EMAIL, "mailbox", "probe-2@example.test", "target-1")
ONE = replace(SCENARIO, channels=("email",))


@dataclass
class Book:
    """A ledger, its connection's transactions one by one, and the time in seconds since the start."""

    engine: Engine
    channels: Mapping[str, Channel] = field(default_factory=lambda: {"email": MAIL, "email-2": OTHER})
    cursor: str | None = None
    number: int = 0

    def plan(
        self, *chosen: Channel, at: float = 0.0, scenario: Scenario = ONE, send: bool = False
    ) -> planning.PlannedProbe:
        self.number += 1
        drafting = Drafting("test", LOCATION, KEYRING, {}, send_by_test=send)
        now = START.plus(at)
        draft = draft_probe(drafting, scenario, chosen or (MAIL,), slot=now.wall, now=now, run="r", number=self.number)
        with self.engine.begin() as conn:
            assert planning.plan_probes(conn, [draft]) == (draft.id,)
        return draft

    def claim(self, at: float) -> tuple[publishing.ClaimedStep, ...]:
        with self.engine.begin() as conn:
            return publishing.claim_steps(conn, LOCATION, START.plus(at), "me").steps

    def answer(
        self, claimed: publishing.ClaimedStep, at: float, *, took: float = 0.0, learned: tuple[Key, ...] = ()
    ) -> None:
        answer = Answer(201, START.plus(at), START.plus(at + took), publication_id="p", learned=learned)
        with self.engine.begin() as conn:
            publishing.record_answer(conn, claimed.step, answer)

    def see(self, *messages: Message, at: float) -> None:
        noticed = notice(messages, self.channels, KEYRING)
        assert len(noticed) == len(messages)
        with self.engine.begin() as conn:
            observing.record(conn, LOCATION, observing.Observed("mailbox", noticed, self.channels), START.plus(at))

    def read(self, *messages: Message, at: float, continues: bool = True) -> None:
        """A complete read of both channels that began at ``at``."""
        reading = Reading(START.plus(at), START.plus(at), continues=continues)
        batch = Batch(messages, f"{at}", dict.fromkeys(self.channels, reading))
        noticed = notice(batch.messages, self.channels, KEYRING)
        observed = observing.Observed("mailbox", noticed, self.channels, self.cursor, batch.cursor, batch.readings)
        with self.engine.begin() as conn:
            observing.record(conn, LOCATION, observed, START.plus(at))
        self.cursor = batch.cursor

    def settle(
        self, at: float, served: frozenset[str] = frozenset({MAIL.identity, OTHER.identity})
    ) -> settling.Settled:
        with self.engine.begin() as conn:
            return settling.settle_due(conn, LOCATION, START.plus(at), served, decide)

    def verdicts(self, probe: planning.PlannedProbe) -> dict[str, tuple[str | None, str | None]]:
        with self.engine.begin() as conn:
            query = select(deliveries).where(deliveries.c.probe_id == probe.id)
            return {row.channel: (row.timeliness, row.outcome) for row in conn.execute(query).all()}

    def total(self, name: str, **labels: str) -> float:
        with self.engine.begin() as conn:
            return total(conn, name, **labels)

    def roles(self, conn: Connection) -> list[str]:
        return list(conn.execute(select(sightings.c.role).order_by(sightings.c.id)).scalars())


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    engine = open_for_writing(str(tmp_path / "ledger.sqlite"))
    yield Book(engine)
    engine.dispose()


def letter(
    text: str,
    at: float,
    *,
    id: str = "INBOX/1.1",
    fingerprint: str = "one",
    channel: str = "email",
    how: How = How.POLL,
) -> Message:
    """A mail that carries ``text``, in our hands at ``at``."""
    return Message(channel, id, fingerprint, (text,), "news@example.test", (), START.plus(at), how)


def test_step_behind_an_unanswered_one_is_settled_all_the_same(book: Book) -> None:
    """A send that could not follow its unanswered create is judged from the create's request, and ends."""
    book.read(at=-1)
    probe = book.plan(send=True)
    (create,) = book.claim(0)
    with book.engine.begin() as conn:
        error = Unanswered("500", status=500, requested_at=START, answered_at=START.plus(1))
        publishing.record_failure(conn, create.step, error, START.plus(1))
    book.settle(1)
    assert book.verdicts(probe) == {"email": (None, None)}
    book.read(at=30.1)
    book.settle(30.1)
    assert book.verdicts(probe) == {"email": ("moot", None)}
    book.read(at=120.1)
    book.settle(120.1)
    assert book.verdicts(probe) == {"email": ("moot", "unanswered")}


def test_copies_stay_copies_when_a_mailbox_is_renumbered(book: Book) -> None:
    """After a new UIDVALIDITY the first mail and its copy come again as moved: neither is counted once more."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    text = probe.publication.marker
    book.read(letter(text, 1), letter(text, 1, id="INBOX/1.2", fingerprint="two"), at=1)
    assert book.total("copies_total") == 1
    again = (letter(text, 2, id="INBOX/2.1"), letter(text, 2, id="INBOX/2.2", fingerprint="two"))
    book.read(*again, at=2, continues=False)
    assert book.total("copies_total") == 1


def test_same_mail_in_two_folders_at_once_is_a_copy(book: Book) -> None:
    """The same header block in two folders in one read: both are present, so one of them is a copy."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    text = probe.publication.marker
    book.read(letter(text, 1), letter(text, 1, id="Junk/7.2"), at=1)
    assert book.total("copies_total") == 1
    book.read(letter(text, 2, id="INBOX/2.1"), letter(text, 2, id="Junk/8.1"), at=2, continues=False)
    assert book.total("copies_total") == 1


def test_strays_are_counted_once_when_a_mailbox_is_renumbered(book: Book) -> None:
    """What was counted as a stray is not counted again when it only comes under another number."""
    forged = "dp1t" + "0" * 3 + "zzzz" + "0" * 13 + "a" * 24
    forged = forged[:4] + "0tknltk" + forged[11:]
    book.read(at=-1)
    book.read(letter(forged, 1), at=1)
    assert book.total("strays_total", reason="forged") == 1
    book.read(letter(forged, 2, id="INBOX/2.1"), at=2, continues=False)
    assert book.total("strays_total", reason="forged") == 1
    book.read(letter(forged, 3, id="INBOX/2.2"), at=3)
    assert book.total("strays_total", reason="forged") == 2


def test_refused_stray_is_counted_once_when_it_is_moved(book: Book) -> None:
    """A mail that arrived after a refusal is one stray, in whatever folder it lies later."""
    book.read(at=-1)
    probe = book.plan()
    (create,) = book.claim(0)
    with book.engine.begin() as conn:
        from prober.errors import Refused

        error = Refused("no", status=400, requested_at=START, answered_at=START)
        publishing.record_failure(conn, create.step, error, START)
    book.read(letter(probe.publication.marker, 1), at=1)
    book.read(letter(probe.publication.marker, 2, id="Junk/7.1"), at=2)
    assert book.total("strays_total", reason="after_refusal") == 1


ID = "0190cafe-0000-7000-8000-00000000abcd"


def test_candidate_whose_key_belongs_elsewhere_still_ends(book: Book) -> None:
    """A key that names another channel ends no waiting: the sighting is counted as unmatched in the end."""
    book.read(at=-1)
    book.plan()
    (create,) = book.claim(0)
    book.see(letter(ID, 1, channel="email-2", id="INBOX/1.9"), letter(ID, 1, how=How.PUSH), at=1)
    with book.engine.begin() as conn:
        waiting = len(conn.execute(select(candidates)).all())
    book.answer(create, 0, took=2, learned=(Key(KeyKind.PUBLICATION_ID, ID, "elsewhere"),))
    with book.engine.begin() as conn:
        observing.expire_candidates(conn, LOCATION, START.plus(700))
        assert "candidate" not in book.roles(conn)
    assert book.total("strays_total", reason="unmatched") == 2
    assert waiting == 1


def test_later_step_moves_no_other_deliverys_deadline(book: Book) -> None:
    """The answer to a send counts for the delivery that hangs on it; its sisters' reads stay where they were."""
    slack = Channel("slack", ChannelKind.SLACK, "app", "C1", "target-2")
    book.plan(MAIL, slack, send=True, scenario=replace(SCENARIO, channels=("email", "slack")))
    (create,) = book.claim(0)
    book.answer(create, 0, took=5)
    book.settle(5)
    (send,) = book.claim(5)
    book.answer(send, 5, took=1)
    with book.engine.begin() as conn:
        due = {row.channel: row.due_boottime for row in conn.execute(select(deliveries)).all()}
    assert due == {"slack": 1030.0, "email": 1035.0}


def test_push_that_a_read_lacked_came_after_that_read_began(book: Book) -> None:
    """A message pushed during a read that did not show it became visible after the read began: overdue, proven."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    book.read(at=29.9)
    message = letter(probe.publication.marker, 30.3, how=How.PUSH)
    reading = Reading(START.plus(30.01), START.plus(30.5), continues=True)
    noticed = notice((message,), book.channels, KEYRING)
    observed = observing.Observed(
        "mailbox",
        tuple(replace(n, in_read=False) for n in noticed),
        book.channels,
        book.cursor,
        "x",
        {"email": reading},
    )
    with book.engine.begin() as conn:
        observing.record(conn, LOCATION, observed, START.plus(30.5))
    book.settle(30.5)
    assert book.verdicts(probe) == {"email": ("overdue", "delivered")}


def test_long_message_id_is_recorded_once(book: Book) -> None:
    """A folder's name may be long: the same message read twice is one sighting, not an error for ever."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    message = letter(probe.publication.marker, 1, id="F" * 400 + "/1.1")
    book.see(message, at=1)
    book.see(message, at=2)
    assert book.total("sightings_total") == 1
    book.see(replace(message, id="F" * 400 + "/1.2"), at=3)
    assert book.total("copies_total") == 1


def test_more_blind_deliveries_than_one_pass_takes_starve_nobody(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is overdue and cannot be judged yet is not judged again in each pass, and makes no pass end in haste."""
    monkeypatch.setattr(settling, "MAX_PASS", 4)
    book.read(at=-1)
    blind = [book.plan() for _ in range(9)]
    claimed = book.claim(0)
    for step in claimed:
        book.answer(step, 0)
    while book.settle(0).more:
        pass
    passes = 0
    while book.settle(31).more:
        passes += 1
        assert passes < 5
    late = book.plan(at=31)
    book.answer(book.claim(31)[0], 31)
    book.see(letter(late.publication.marker, 32, how=How.PUSH), at=32)
    settled = book.settle(32)
    assert [probe for _, probe in settled.settled] == [late.id]
    assert not settled.more
    book.read(at=40)
    ended = set()
    for _ in range(5):
        ended |= {probe for _, probe in book.settle(40).settled}
    assert ended == {probe.id for probe in blind}


def test_blind_grace_ends_whatever_the_wall_clock_says(book: Book) -> None:
    """After a step of the wall clock back by a day the failed reads still end a blind channel's grace."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    for seconds in (0, 31, 121):
        book.settle(seconds)
    late = Instant(START.wall - 86_400, START.boottime + 190, START.boot_id)
    with book.engine.begin() as conn:
        observing.record_unreadable(conn, LOCATION, "mailbox", Unreadable("unreachable"), late)
        settling.settle_due(conn, LOCATION, late, {MAIL.identity}, decide)
    assert book.verdicts(probe) == {"email": ("void", "void")}


def test_another_locations_publication_keeps_nobody_waiting(book: Book) -> None:
    """Only a publication of this location may still teach the key of what is seen here."""
    book.read(at=-1)
    elsewhere = replace(book.plan(), id="elsewhere", location="there")
    with book.engine.begin() as conn:
        planning.plan_probes(conn, [elsewhere])
    book.answer(book.claim(0)[0], 0)
    book.see(letter(ID, 1), at=1)
    assert book.total("strays_total", reason="unmatched") == 1


def test_settled_facts_stay_as_they_were_judged(book: Book) -> None:
    """An earlier receipt of a message that is settled already changes nothing that the verdict rests on."""
    book.read(at=-1)
    probe = book.plan()
    book.answer(book.claim(0)[0], 0)
    book.see(letter(probe.publication.marker, 5), at=5)
    book.settle(5)
    book.see(letter(probe.publication.marker, 4, how=How.PUSH), at=6)
    with book.engine.begin() as conn:
        row = conn.execute(select(sightings)).one()
    assert (row.upper_boottime, row.how) == (1005.0, "poll")


def test_step_that_somebody_else_took_is_not_ours(book: Book) -> None:
    """A claim returns only the steps whose state it changed itself."""
    book.plan()

    with book.engine.begin() as conn:

        def snatch(_step: Step, _publication: Publication) -> str:
            conn.exec_driver_sql("UPDATE steps SET state = 'taken', taken_by = 'another'")
            return ""

        claimed = publishing.claim_steps(conn, LOCATION, START, "test", announce=snatch)
        assert claimed.steps == ()
        assert conn.execute(select(steps.c.taken_by)).scalar_one() == "another"
    assert book.total("slots_total", state="started") == 0

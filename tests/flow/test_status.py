"""The status page over a ledger with a history: what it says, what it costs, and that nothing depends on it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, update

from prober.clock import Instant
from prober.ledger.glance import MOST_FAILURES, RECENT, glance
from prober.ledger.ledger import Ledger
from prober.ledger.opening import open_for_reading
from prober.ledger.tables import FAILED, deliveries, launching, observers, probes
from prober.model import Content, PublicationKind, Scenario, Schedule
from prober.report.ruling import BAD_OUTCOMES, BAD_TIMELINESS
from tests.bench.ledgers import make_ledger
from tests.flow.test_review_plans import BOUNDED, BY_HISTORY
from tests.sites import Site, settings_for, site

END = 1_790_000_000.0
CONTENT = Content("alert", "t", "s", "x")
ALERT = Scenario(
    "alert-latency", "Says <b>alert</b>.", PublicationKind.ALERT, ("email", "slack", "discord"), 30.0, 120.0, CONTENT,
    schedule=Schedule(every=60.0),
)  # fmt: skip
NEWS = Scenario(
    "newsletter-delivery", "", PublicationKind.NEWSLETTER, ("email", "email-2"), 120.0, 600.0, CONTENT,
    schedule=Schedule(cron="0 9 * * *", time_zone="Europe/Oslo"),
)  # fmt: skip
NEVER = replace(ALERT, name="never-ran")


class Standing:
    """A clock that stands at the end of the history."""

    def now(self) -> Instant:
        return Instant(END, 1e6, "elsewhere")

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days with an outage, losses, blindness and bad answers."""
    place = tmp_path_factory.mktemp("status") / "ledger.sqlite"
    make_ledger(str(place), END, days=4, rate=0.5)
    return place


@pytest.fixture
async def book(history: Path, tmp_path: Path) -> AsyncIterator[Ledger]:
    """The history as a ledger of one's own."""
    place = tmp_path / "ledger.sqlite"
    await asyncio.to_thread(shutil.copy, history, place)
    async with Ledger(str(place)) as ledger:
        yield ledger


@pytest.fixture
async def here(book: Ledger) -> AsyncIterator[Site]:
    settings = settings_for({"email": "email", "email-2": "email", "slack": "slack", "discord": "discord"})
    async with site(settings, (ALERT, NEWS, NEVER), book, Standing()) as opened:
        yield opened


def words(page: str) -> str:
    """A page's text without its markup."""
    return " ".join(re.sub(r"<(title|style)>.*?</\1>|<[^>]+>", " ", page, flags=re.S).split())


async def test_the_page_says_what_is_so(here: Site, book: Ledger) -> None:
    """Each scenario on each channel, what is awaited, what failed, and who is blind, in words."""
    status, page, headers = await here.get("/")
    text = words(page)
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; img-src 'self' data:")
    assert "<script" not in page
    assert "style=" not in page
    assert "Says &lt;b&gt;alert&lt;/b&gt;." in page
    assert "alert, every 60s, within 30s" in text.replace("1m", "60s")
    assert "newsletter, at 0 9 * * * Europe/Oslo, within 2m" in text
    assert page.count('class="spark"') == 8
    assert f"The last {RECENT}, deadline 30s; median " in page
    assert "No probe yet." in page
    assert text.count("no result yet") >= 3
    (failed, *_) = await book.read(_newest_failures)
    assert f'href="/probes/{failed.probe_id}"' in page
    assert "slack overdue" in text or "slack lost" in text or "email lost" in text
    assert '<meta http-equiv="refresh" content="5">' in page
    assert "refresh" not in (await here.get("/?refresh=off"))[1].split("</head>")[0]


async def test_a_blind_observer_is_told_before_the_last_result(here: Site, book: Ledger) -> None:
    """While nobody can look at a channel, its state is blind, whatever came before; the reason stands beside it."""
    assert "5 of 8 kept the promise the last time; 3 have no result yet." in words((await here.get("/"))[1])
    await book.write(_blinded, "email", "login refused: <script>alert(1)</script>")
    await book.write(_failing, 7)
    _, page, _ = await later(here)
    assert page.count('<span class="state void"><span class="sign" aria-hidden="true">◇</span> blind</span>') >= 4 + 1
    assert "4 of 8 cannot be seen by us now: alert-latency on email, newsletter-delivery on email, " in words(page)
    assert "login refused: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "The target failed 7 times in a row: only one trial a minute is launched." in page
    assert "The loops do not run" in page


async def later(here: Site) -> tuple[int, str, Any]:
    """The page once what was read for the one before is not fresh any more."""
    here.serving.clock = _At(here.serving.clock.now().plus(5.0))
    return await here.get("/")


class _At(Standing):
    def __init__(self, now: Instant) -> None:
        self._now = now

    def now(self) -> Instant:
        return self._now


async def test_a_probes_page_has_its_way_and_its_verdicts(here: Site, book: Ledger) -> None:
    """Steps, waypoints, sightings with their intervals, verdicts; an unknown probe is not found."""
    (failed, *_) = await book.read(_newest_failures)
    status, page, _ = await here.get(f"/probes/{failed.probe_id}")
    text = words(page)
    assert status == 200
    assert "create ended" in text
    assert "created" in text
    assert "What became of it?" in text
    assert failed.timeliness.replace("_", " ") in text
    assert '<rect class="stretch step"' in page
    assert page.count('class="fall"') >= 5
    assert "http-equiv" not in page  # settled: nothing changes any more
    status, text, _ = await here.get("/probes/nobody")
    assert (status, text) == (404, "no such probe is on record\n")
    status, page, _ = await here.get("/static/style.css")
    assert status == 200
    assert "@import" not in page
    assert "url(" not in page


async def test_metrics_and_probe_answer_whatever_the_page_does(here: Site, book: Ledger) -> None:
    """A row at which the page breaks, and a hundred who ask for it, keep nobody from /metrics and /probe."""
    asked = [asyncio.create_task(here.get("/")) for _ in range(100)]
    asked += [asyncio.create_task(here.get(f"/probes/{row.probe_id}")) for row in await book.read(_newest_failures)]
    assert (await here.get("/metrics"))[0] == 200
    assert (await here.get("/probe?module=alert-latency"))[0] == 200
    assert not all(task.done() for task in asked)
    assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}
    await book.write(_broken, "newsletter-delivery")
    assert (await later(here))[0] == 500
    assert (await here.get("/metrics"))[0] == 200
    assert (await here.get("/probe?module=alert-latency"))[0] == 200
    assert (await here.get("/-/startup"))[0] == 503


async def test_a_look_costs_what_is_open_or_recent(history: Path) -> None:
    """No query walks through history, and old failures stay however many good deliveries came since."""
    engine = open_for_reading(str(history))
    asked: dict[str, Any] = {}

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, _context: object, _many: bool) -> None:
        asked.setdefault(statement, parameters)

    with engine.connect() as conn:
        event.listen(engine, "before_cursor_execute", note)
        seen = glance(conn, "local", [ALERT.name, NEWS.name])
        event.remove(engine, "before_cursor_execute", note)
        assert len(asked) >= 8
        plans = {
            statement: [str(row[3]) for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in asked.items()
        }
    engine.dispose()
    for statement, lines in plans.items():
        if any("deliveries_failed" in line for line in lines):
            assert not any("TEMP B-TREE" in line for line in lines), lines  # the newest of them, not all of them
            continue
        assert [line for line in lines if BY_HISTORY.search(line) and not any(f" {i} " in line for i in BOUNDED)] == []
        assert statement
    assert any("deliveries_failed" in line for lines in plans.values() for line in lines)
    assert {len(rows) for rows in seen.recent.values()} == {RECENT}
    assert len(seen.failures) == MOST_FAILURES
    assert min(row.planned_wall for row in seen.failures) < min(
        row.planned_wall for rows in seen.recent.values() for row in rows
    )


def test_what_failed_is_the_same_for_the_index_and_for_the_ruling() -> None:
    """The index holds every verdict that makes a run fail, and no other."""
    named = set(re.findall(r"'(\w+)'", str(FAILED)))
    assert named == {str(verdict) for verdict in BAD_OUTCOMES | BAD_TIMELINESS}


def _newest_failures(conn: Connection) -> list[Any]:
    query = select(deliveries).where(FAILED, deliveries.c.open == 0).order_by(deliveries.c.planned_wall.desc())
    return list(conn.execute(query.limit(10)).all())


def _blinded(conn: Connection, name: str, detail: str) -> None:
    conn.execute(
        insert(observers).values(
            location="local", name=name, blind_reason="login_refused", blind_detail=detail, trouble="",
            blind_since_wall=END - 90, blind_since_boottime=1.0, blind_since_boot_id="b",
        )
    )  # fmt: skip


def _failing(conn: Connection, errors: int) -> None:
    conn.execute(insert(launching).values(location="local", errors=errors, trial_at=END))


def _broken(conn: Connection, scenario: str) -> None:
    newest = select(probes.c.id).where(probes.c.scenario == scenario).order_by(probes.c.slot.desc()).limit(1)
    found = conn.execute(newest).scalar_one()
    conn.execute(update(deliveries).where(deliveries.c.probe_id == found).values(outcome="nonsense"))

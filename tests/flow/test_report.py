"""A report over a ledger with an outage, losses and blindness, against counting its rows by hand."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from sqlalchemy import Engine, update

from prober.errors import LedgerError
from prober.ledger.opening import open_for_reading, open_for_writing
from prober.ledger.tables import HEAD, coverage, deliveries, instant_values
from prober.ledger.windows import Window
from prober.model import Outcome, Timeliness
from prober.objectives import DEFAULT_OBJECTIVES, Indicator, Objective
from prober.report.gathering import overview
from prober.report.lines import plain
from prober.report.overview import Overview
from prober.report.overview_json import overview_to_json
from prober.report.overview_markdown import overview_markdown
from prober.report.overview_text import render_overview
from prober.report.page import overview_page
from prober.report.schema import result_schema
from prober.report.values import Result, TargetName, json_text
from tests.bench.ledgers import make_ledger

END = 1_790_000_000.0 - 1_790_000_000.0 % 3600
DAYS = 2.0
WHOLE = Window(END - DAYS * 86400, END)
TARGET = TargetName("https://publishing.example", sandbox=False)
EVERY = tuple(
    Objective(str(each).replace("_", "-"), each, 0.99, within=0.15 if each is Indicator.API_LATENCY else None)
    for each in Indicator
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "ledger.sqlite"
    make_ledger(str(path), END, days=DAYS, rate=0.5)
    return path


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[Engine]:
    engine = open_for_reading(str(place))
    yield engine
    engine.dispose()


def report(engine: Engine, window: Window = WHOLE, objectives: tuple[Objective, ...] = DEFAULT_OBJECTIVES) -> Overview:
    with engine.connect() as conn:
        return overview(conn, window, objectives, TARGET, END)


def rows(place: Path, where: str = "1=1") -> list[sqlite3.Row]:
    with sqlite3.connect(place) as conn:
        conn.row_factory = sqlite3.Row
        return conn.execute(f"SELECT * FROM deliveries WHERE {where}").fetchall()  # noqa: S608 - our own words


def test_every_delivery_is_counted_once(engine: Engine, place: Path) -> None:
    """Counts by verdict, lost ones in the quantiles, and the shares are those of the rows."""
    found = report(engine)
    assert found.expected == len(rows(place)) > 4000
    for lane in found.lanes:
        mine = rows(place, f"scenario = '{lane.scenario}' AND channel = '{lane.channel}'")
        assert lane.by_outcome == {o: Counter(row["outcome"] for row in mine)[o] for o in Outcome}
        assert lane.by_timeliness == {t: Counter(row["timeliness"] for row in mine)[t] for t in Timeliness}
        assert lane.expected == len(mine) == sum(moment.count for moment in lane.moments)
        assert lane.open == sum(row["open"] for row in mine)
        arrived = [row["latency_upper"] for row in mine if row["outcome"] in {"delivered", "damaged"}]
        ranked = sorted([*arrived, *[math.inf] * lane.by_outcome[Outcome.LOST]])
        if not lane.live:
            assert lane.quantiles["p95"][1] == ranked[math.ceil(0.95 * len(ranked) - 1e-9) - 1]
            assert lane.quantiles["max"][1] == ranked[-1]
    assert found.result is Result.FAIL
    lost = sum(row["outcome"] == "lost" for row in rows(place))
    assert f"{lost:,} of {found.expected:,} deliveries lost" in found.reason
    assert len(found.worst) == 10
    assert all(any(d.outcome and d.outcome.verdict is Outcome.LOST for d in p.deliveries) for p in found.worst)


def test_objectives_count_what_the_rows_say(engine: Engine, place: Path) -> None:
    """Each indicator over the whole window equals the same formula over deliveries and steps."""
    found = {report.objective.indicator: report for report in report(engine, objectives=EVERY).objectives}
    everything = rows(place)
    timeliness = Counter(row["timeliness"] for row in everything)
    outcome = Counter(row["outcome"] for row in everything)
    with sqlite3.connect(place) as conn:
        steps = conn.execute("SELECT result, ended_boottime - requested_boottime FROM steps").fetchall()
    results = Counter(result for result, _ in steps)
    expected = {
        Indicator.TIMELINESS: (
            timeliness["on_time"],
            sum(timeliness[word] for word in ("on_time", "overdue", "early", "ambiguous")),
        ),
        Indicator.DELIVERY: (
            outcome["delivered"],
            sum(outcome[word] for word in ("delivered", "damaged", "misplaced", "lost")),
        ),
        Indicator.SILENCE: (0, 0),
        Indicator.PUBLISH: (results["accepted"], results["accepted"] + results["error"]),
        Indicator.API_LATENCY: (sum(took <= 0.15 for _, took in steps), len(steps)),
    }
    for indicator, (good, valid) in expected.items():
        counts = found[indicator].counts
        assert (counts.good, counts.valid) == (good, valid), indicator
    assert found[Indicator.TIMELINESS].counts.void == timeliness["void"]
    kept = found[Indicator.JOURNEY].counts
    probes: dict[str, list[sqlite3.Row]] = {}
    for row in everything:
        probes.setdefault(row["probe_id"], []).append(row)
    whole = [all(r["timeliness"] == "on_time" and r["outcome"] == "delivered" for r in own) for own in probes.values()]
    assert kept.good == sum(whole)
    by_channel = found[Indicator.TIMELINESS].channels
    assert by_channel["slack"].good == len(rows(place, "channel = 'slack' AND timeliness = 'on_time'"))
    down = found[Indicator.TIMELINESS].burn_down
    left = found[Indicator.TIMELINESS].budget
    assert left is not None
    assert down[0][1] == 1
    assert down[-1][1] == pytest.approx(left.remaining)
    assert [rest for _, rest in down] == sorted((rest for _, rest in down), reverse=True)


def test_short_burns_are_counted_probe_by_probe(engine: Engine, place: Path) -> None:
    """In the middle of the outage the five minutes and the hour before burn at what their rows say."""
    outage = WHOLE.since + 0.3 * DAYS * 86400 + 0.015 * DAYS * 86400
    slack = Objective("x", Indicator.TIMELINESS, 0.95, channels=frozenset({"slack"}))
    (found,) = report(engine, replace(WHOLE, until=outage), (slack,)).objectives
    hour = rows(place, f"channel = 'slack' AND planned_wall >= {outage - 3600} AND planned_wall < {outage}")
    bad = sum(row["timeliness"] in {"overdue", "ambiguous"} for row in hour)
    valid = sum(row["timeliness"] in {"overdue", "ambiguous", "on_time"} for row in hour)
    assert bad > 0
    assert found.burns[0].long == pytest.approx(bad / valid / 0.05)
    assert found.burns[0].short == pytest.approx(20)


def test_a_report_is_of_what_is_chosen(engine: Engine, place: Path) -> None:
    """Scenario, channel, location and window choose, each alone and together."""
    slack = report(engine, replace(WHOLE, channel="slack"))
    assert {lane.channel for lane in slack.lanes} == {"slack"}
    assert slack.expected == len(rows(place, "channel = 'slack'"))
    one = report(engine, replace(WHOLE, channel="email", scenario="alert-latency", location="local"))
    assert [(lane.scenario, lane.channel) for lane in one.lanes] == [("alert-latency", "email")]
    since = END - 3600 * 7.5
    assert report(engine, replace(WHOLE, since=since)).expected == len(rows(place, f"planned_wall >= {since}"))
    (left,) = (r for r in slack.objectives if r.objective.indicator is Indicator.TIMELINESS)
    assert list(left.channels) == ["slack"]
    for nothing in (replace(WHOLE, scenario="other"), replace(WHOLE, location="elsewhere"), Window(0, 86400)):
        assert report(engine, nothing).expected == 0


def test_an_empty_window_says_so(engine: Engine) -> None:
    """In every form, without figures that would mean nothing."""
    empty = report(engine, Window(0, 86400))
    assert empty.result is Result.VOID
    assert "No delivery was planned in this window." in [plain(line) for line in render_overview(empty, 80)]
    assert "No delivery was planned in this window." in overview_markdown(empty)
    page = overview_page(empty)
    assert "No delivery was planned in this window." in page
    assert "<svg" not in page
    assert overview_to_json(empty)["report"]["channels"] == []


def test_a_live_window_is_estimated(tmp_path: Path) -> None:
    """What is still awaited counts up to its channel's last complete read, and the quantiles say that they guess."""
    place = str(tmp_path / "ledger.sqlite")
    make_ledger(place, END, days=0.05, rate=2)
    engine = open_for_writing(place)
    with engine.begin() as conn:
        recently = deliveries.c.planned_wall > END - 900
        conn.execute(
            update(deliveries)
            .where(recently, deliveries.c.channel == "slack")
            .values(open=1, timeliness=None, timeliness_at=None, outcome=None, outcome_at=None, latency_lower=None,
                    latency_upper=None)
        )  # fmt: skip
        watermark = {f"watermark_{name}": value for name, value in (("wall", END - 600.0), ("boottime", 0.0))}
        conn.execute(
            coverage.insert().values(
                location="local", identity="slack:slack@probes.example", channel="slack", blind_reason="",
                blind_detail="", watermark_boot_id="b", **watermark, **instant_values("since", None),
            )
        )  # fmt: skip
    engine.dispose()
    reader = open_for_reading(place)
    with reader.connect() as conn:
        found = overview(conn, Window(END - 4320, END), DEFAULT_OBJECTIVES, TARGET, END)
    reader.dispose()
    alert = next(lane for lane in found.lanes if (lane.scenario, lane.channel) == ("alert-latency", "slack"))
    assert alert.live
    assert alert.open > 20
    assert alert.share.of == alert.expected - alert.open - alert.void - alert.by_timeliness[Timeliness.MOOT]
    # Half a minute on, ten of the fifteen minutes are known not to have come: much is censored early, some long.
    assert alert.quantiles["p50"][1] < math.inf
    text = "\n".join(plain(line) for line in render_overview(found, 160))
    assert "(estimated)" in text


def test_reading_changes_nothing_and_never_migrates(engine: Engine, place: Path, tmp_path: Path) -> None:
    """The file stays as it is; an older ledger is refused with the mend, a missing one is not made."""
    before = place.read_bytes()
    report(engine)
    assert place.read_bytes() == before
    old = tmp_path / "old.sqlite"
    old.write_bytes(before)
    with sqlite3.connect(old) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '0007'")
    with pytest.raises(LedgerError, match=f"needs an upgrade to {HEAD}"):
        open_for_reading(str(old))
    with pytest.raises(LedgerError, match="no such file"):
        open_for_reading(str(tmp_path / "none.sqlite"))
    assert not (tmp_path / "none.sqlite").exists()


def test_the_json_is_described_by_the_schema(engine: Engine) -> None:
    """All of it, strictly: no NaN, no infinity, undelivered quantiles null and named."""
    value = overview_to_json(report(engine, objectives=EVERY))
    text = json_text(value)
    jsonschema.Draft202012Validator(result_schema()).validate(json.loads(text))
    slack = next(c for c in value["report"]["channels"] if c["channel"] == "slack")
    assert "max" in slack["undelivered"]
    assert slack["quantiles"]["max"]["upper"] is None
    assert value["report"]["deliveries"] == sum(c["expected"] for c in value["report"]["channels"])
    required = result_schema()["properties"]["report"]["required"]
    assert set(required) == set(value["report"])


HOSTILE = "</title><script>alert(1)</script>|**x**[a](javascript:x)\x1b[31m\u202e@all"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Whatever a channel, a scenario or an answer is called, no form of the report is more than text."""
    place = str(tmp_path / "ledger.sqlite")
    make_ledger(place, END, days=0.1)
    engine = open_for_writing(place)
    with engine.begin() as conn:
        conn.execute(
            update(deliveries).values(
                scenario=HOSTILE, channel=HOSTILE, outcome_reason=HOSTILE, outcome="lost", latency_basis=HOSTILE
            ).where(deliveries.c.channel == "slack")
        )  # fmt: skip
    engine.dispose()
    reader = open_for_reading(place)
    with reader.connect() as conn:
        hostile = Objective(HOSTILE, Indicator.TIMELINESS, 0.9)
        found = overview(conn, Window(END - 8640, END), (hostile,), TargetName(HOSTILE, sandbox=False), END)
    reader.dispose()
    page = overview_page(found)
    assert page.count("&lt;script&gt;") >= 5
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    markdown = overview_markdown(found)
    for raw in ("<script", "**x**", "[a](", "\x1b", "\u202e", "](javascript"):
        assert raw not in markdown
    assert all("\x1b" not in plain(line) and "\u202e" not in plain(line) for line in render_overview(found, 100))

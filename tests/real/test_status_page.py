"""The status page in a real browser: without a script, on a desk, on a phone, in the dark, under attack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import Connection, select, update

from prober.clock import SystemClock
from prober.ledger.tables import deliveries, observers, probes, steps, waypoints
from prober.model import Scenario
from tests.real.place import Life, Place, alert, place
from tests.real.strangers import Stranger, letter, marker_of
from tests.sites import Site, site

LONG = 30_000.0
"""Milliseconds within which a page has shown something."""

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
_LIGHTNESS = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"


@asynccontextmanager
async def shown(world: Place, life: Life, scenario: Scenario) -> AsyncIterator[Site]:
    async with site(world.settings, (scenario,), life.flow.ledger, SystemClock()) as opened:
        yield opened


@asynccontextmanager
async def looked_at(browser: Browser, **how: Any) -> AsyncIterator[tuple[Page, list[str], list[str]]]:
    """A page of its own, what it asks for, and what it complains of (a breach of the policy among that)."""
    page = await browser.new_page(**how)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        yield page, asked, said
    finally:
        await page.close()


async def test_it_is_current_by_itself_without_a_script(tmp_path: Path, browser: Browser) -> None:
    """A probe that begins while somebody looks appears, is settled and has a page, and nobody has touched a key."""
    async with (
        place(tmp_path) as world,
        world.life() as life,
        shown(world, life, alert()) as here,
        looked_at(browser, java_script_enabled=False) as (page, asked, said),
    ):
        await page.goto(here.url)
        assert await page.locator("h1").inner_text() == "Delivery status"
        await expect(page.locator("table.lanes tbody tr")).to_have_count(3)
        assert await page.locator(".now").all_inner_texts() == ["… no result yet"] * 3
        (probe,) = await launched(life)
        await expect(page.locator(".now", has_text="on time")).to_have_count(3, timeout=LONG)
        await expect(page.locator(f".spark a[href='/probes/{probe}']")).to_have_count(3)
        assert "1 of 1" in await page.locator(".kept").first.inner_text()
        await page.locator(".latest a").first.click()
        await expect(page.locator("h1")).to_have_text("alert-latency")
        assert page.url == f"{here.url}/probes/{probe}"
        await expect(page.locator("table.waterfall").first).to_contain_text("email sighting")
        await expect(page.locator("table.verdicts tbody tr")).to_have_count(3)
        assert said == []
        assert {url for url in asked if not url.startswith((here.url, "data:"))} == set()


async def launched(life: Life) -> tuple[str, ...]:
    """A probe as a schedule would have launched it."""
    names = await life.launch(within=30, give_up=40)
    await life.flow.ledger.write(_scheduled, names[0])
    return names


def _scheduled(conn: Connection, probe: str) -> None:
    conn.execute(update(probes).where(probes.c.id == probe).values(run=""))


async def test_what_strangers_wrote_stays_text(tmp_path: Path, browser: Browser) -> None:
    """A hostile mail, answer, waypoint, reason and description are shown as they are; no script runs."""
    scenario = replace(alert(), description=EVIL)
    async with place(tmp_path) as world, world.life() as life, shown(world, life, scenario) as here:
        (probe,) = await launched(life)
        await life.settled()
        key = await life.flow.ledger.read(marker_of, probe)
        headers = f"Received: from {EVIL} by {EVIL}; Wed, 25 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{EVIL}>\r\n"
        await Stranger(world).leaves(letter(f"{key} {EVIL}", subject=f"{EVIL} {key}", headers=headers))
        await life.counted(1, "copies_total")
        await life.flow.ledger.write(_poisoned, life.flow.location, probe)
        async with looked_at(browser) as (page, asked, said):
            for path, needed in (("/?refresh=off", 3), (f"/probes/{probe}?refresh=off", 5)):
                await page.goto(here.url + path)
                await page.wait_for_load_state("networkidle")
                assert await page.title() != "owned"
                assert await page.locator("script, img, iframe, object").count() == 0
                body = await page.locator("body").inner_text()
                assert body.count(EVIL) >= needed, body
            assert said == []
            assert {url for url in asked if not url.startswith((here.url, "data:"))} == set()


def _poisoned(conn: Connection, location: str, probe: str) -> None:
    """Every text of the ledger that a page shows and that may have come from outside."""
    conn.execute(update(steps).where(steps.c.probe_id == probe).values(title=EVIL, detail=EVIL, correlation_id=EVIL))
    conn.execute(update(waypoints).where(waypoints.c.probe_id == probe).values(source=EVIL, detail=EVIL))
    mine = deliveries.c.probe_id == probe
    first = conn.execute(select(deliveries.c.id).where(mine).limit(1)).scalar_one()
    conn.execute(
        update(deliveries).where(deliveries.c.id == first)
        .values(outcome="damaged", outcome_reason=EVIL, timeliness_reason=EVIL)
    )  # fmt: skip
    values = {"blind_reason": "unreachable", "blind_detail": EVIL, "trouble": EVIL}
    conn.execute(update(observers).where(observers.c.location == location, observers.c.name == "slack").values(values))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
async def test_it_can_be_read_everywhere(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    """Nothing is wider than a phone, the dark is dark, a lost message is a cross, and what is drawn is said too."""
    how = {"viewport": {"width": width, "height": 844}, "color_scheme": "dark" if dark else "light"}
    weather = "seed: 1\nchannels: {slack: {loss: 1.0}}"
    async with place(tmp_path, weather, speed=4.0) as world, world.life() as life, shown(world, life, alert()) as here:
        (probe,) = await life.launch(within=6, give_up=12)
        await life.flow.ledger.write(_scheduled, probe)
        await life.settled()
        async with looked_at(browser, **how) as (page, _, said):
            for path in ("/?refresh=off", f"/probes/{probe}"):
                await page.goto(here.url + path)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
                assert (await page.evaluate(_LIGHTNESS) < 60) is dark
                assert await page.evaluate(_NAMELESS) == []
            await page.goto(f"{here.url}/?refresh=off")
            await expect(page.locator(".spark use.lost")).to_have_count(1)
            boxes = await page.locator(".spark").evaluate_all("all => all.map(s => s.getBoundingClientRect().width)")
            assert min(boxes) > 150
            slack = page.get_by_role("img", name="alert-latency on slack: The last 1, deadline 30s; 1 lost.")
            await expect(slack).to_be_visible()
            await expect(page.locator(".now", has_text="lost")).to_be_visible()
            for column in ("Channel", "Now", "Latest", "Kept", "In flight"):
                assert await page.get_by_role("columnheader", name=column, exact=True).count() == 1
            failed = page.get_by_role("region", name="Recent failures").first
            await expect(failed).to_contain_text("slack lost")
            await expect(failed).to_contain_text("not visible at the horizon")
            await expect(failed.get_by_role("link")).to_have_attribute("href", f"/probes/{probe}")
            assert said == []


_NAMELESS = """[...document.querySelectorAll('svg:not([aria-hidden])')].filter(s => !s.getAttribute('aria-label'))
    .map(s => s.outerHTML.slice(0, 80)).concat(
    [...document.querySelectorAll('section')].filter(s => !document.getElementById(s.getAttribute('aria-labelledby')))
    .map(s => s.outerHTML.slice(0, 80)))"""

"""The report's page in a real browser: what a person sees, on a desk, on a phone, in the dark and on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from prober.ledger.opening import open_for_reading
from prober.ledger.windows import Window
from prober.objectives import DEFAULT_OBJECTIVES
from prober.report.gathering import overview
from prober.report.page import overview_page
from prober.report.values import TargetName
from tests.bench.ledgers import make_ledger

END = 1_790_000_000.0


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    place = str(folder / "ledger.sqlite")
    make_ledger(place, END, days=2, rate=0.5)
    engine = open_for_reading(place)
    with engine.connect() as conn:
        found = overview(
            conn, Window(END - 2 * 86400, END), DEFAULT_OBJECTIVES, TargetName("https://x.example", sandbox=False), END
        )
    engine.dispose()
    path = folder / "report.html"
    path.write_text(overview_page(found), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
async def test_the_page_stands_alone_everywhere(browser: Browser, page_file: Path, width: int, dark: bool) -> None:
    """No request but the file's own, no complaint, no script; all plots are drawn; nothing is wider than a phone; in
    the dark the page is dark, and on paper it is light again."""
    page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(page_file.as_uri())
    assert asked == [page_file.as_uri()]
    assert said == []
    assert await page.locator("script, img, iframe, link, object").count() == 0
    assert await page.locator("svg").count() >= 4 + 8 + 3 + 8
    boxes = await page.locator("svg").evaluate_all("all => all.map(svg => svg.getBoundingClientRect().height)")
    assert min(boxes) > 40
    assert await page.locator("svg rect.lost").count() > 3
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert (await page.evaluate(_LIGHTNESS) < 60) is dark
    await page.emulate_media(media="print")
    assert await page.evaluate(_LIGHTNESS) > 240
    assert await page.locator("h1").inner_text() == "Delivery report"
    assert len(await page.pdf(format="A4")) > 20_000


_LIGHTNESS = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"


async def test_no_number_of_a_plot_is_broken(browser: Browser, page_file: Path) -> None:
    """Every coordinate is a finite number, and lies in or near its box."""
    page = await browser.new_page()
    await page.goto(page_file.as_uri())
    paths = await page.locator("svg path").evaluate_all("all => all.map(path => path.getAttribute('d'))")
    assert len(paths) > 30
    assert not [path for path in paths if "nan" in path.lower() or "inf" in path.lower()]
    lengths = await page.locator("svg path.p50, svg path.curve, svg path.budget-line").evaluate_all(
        "all => all.map(path => path.getTotalLength())"
    )
    assert min(lengths) > 100
    outside = await page.locator("svg circle").evaluate_all(
        "all => all.filter(c => !(c.cx.baseVal.value >= 40 && c.cx.baseVal.value <= 510 && c.cy.baseVal.value >= 0"
        " && c.cy.baseVal.value <= 230)).length"
    )
    assert outside == 0

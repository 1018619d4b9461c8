"""``prober report`` as it is typed: forms, windows, what is chosen, and what is typed wrongly."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest

from prober.report.schema import result_schema
from tests.bench.ledgers import make_ledger
from tests.cli.console import Console

pytestmark = pytest.mark.asyncio(loop_scope="session")


def filled(console: Console) -> None:
    make_ledger(str(console.folder / "ledger.sqlite"), time.time() - 60, days=0.5)


async def told(console: Console, *arguments: str) -> Any:
    ended = await console.run("report", "--ledger", "ledger.sqlite", "-o", "json", *arguments)
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


async def test_every_form_is_written_and_ends_with_0(console: Console) -> None:
    """A month with losses exits with 0 in each form; nothing is needed but the ledger."""
    filled(console)
    text = await console.run("report", "--ledger", "ledger.sqlite", "--since", "1d")
    for words in ("FAIL", "Latency over time", "Objectives", "Where the time went", "Worst probes", "alert-timeliness"):
        assert words in text.out
    markdown = await console.run("report", "--ledger", "ledger.sqlite", "--output", "markdown")
    assert markdown.out.startswith("## Delivery report: FAIL")
    page = await console.run("report", "--ledger", "ledger.sqlite", "--output", "html")
    assert page.out.startswith("<!doctype html>")
    assert page.out.rstrip().endswith("</html>")
    assert (text.code, markdown.code, page.code) == (0, 0, 0)
    jsonschema.Draft202012Validator(result_schema()).validate(await told(console))


async def test_the_window_and_the_choice_are_obeyed(console: Console) -> None:
    """Durations, dates, names: what is reported is what was asked for."""
    filled(console)
    whole = await told(console)
    some = await told(console, "--since", "3h", "--scenario", "alert-latency", "--channel", "slack")
    assert {(c["scenario"], c["channel"]) for c in some["report"]["channels"]} == {("alert-latency", "slack")}
    assert 170 <= some["report"]["deliveries"] <= 180 < whole["report"]["deliveries"]
    old = await told(console, "--since", "2020-01-01", "--until", "2020-01-02T12:00+02:00")
    assert (old["report"]["since"], old["report"]["until"]) == (
        "2020-01-01T00:00:00.000000Z", "2020-01-02T10:00:00.000000Z",
    )  # fmt: skip
    assert (old["result"], old["reason"]) == ("void", "no delivery was planned in this window")
    empty = await console.run("report", "--ledger", "ledger.sqlite", "--until", "400d")
    assert "No delivery was planned in this window." in empty.out


async def test_the_configured_objectives_and_ledger_are_used(console: Console) -> None:
    """Without --ledger the configuration's is read, and its objectives judge."""
    filled(console)
    console.write(
        "prober.yaml",
        "environment: lab\nkeys: [{id: a, secret: sixteen-letters-or-more}]\nledger: ledger.sqlite\n"
        "objectives: {whole: {indicator: journey, goal: 99%}}\n",
    )
    ended = await console.run("report", "-o", "json")
    assert ended.code == 0, ended.err
    (one,) = json.loads(ended.out)["report"]["objectives"]
    assert (one["name"], one["indicator"], one["goal"]) == ("whole", "journey", 0.99)
    assert one["counts"]["good"] > 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "--since: 'yesterday' is no time (write a duration such as 30d"),
        (("--until", "2026-13-01"), "--until: '2026-13-01' is no time"),
        (("--since", "2026-01-02", "--until", "2026-01-01"), "--since: the window ends before it begins"),
        (("--output", "htm"), "--output: 'htm' is not known (did you mean 'html'?)"),
        (("--ledger", "none.sqlite"), "no such file"),
    ],
)
async def test_what_is_typed_wrongly_is_named(console: Console, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, the option and the mend, and no file is made."""
    ended = await console.run("report", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert not list(console.folder.iterdir())

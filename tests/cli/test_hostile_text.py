"""What the target and the providers say is text on the screen, in the plug-in's line, in the JSON: never more."""

from __future__ import annotations

import asyncio
import os
import pty
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from prober.config import dump_configuration
from tests.cli.console import Console
from tests.real.place import Place, place

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07\x9b1m\x00 [bold red]m[/] :smile: <script>alert(1)</script> 'q\" | a=1;2;3;4\r\n"
    'PROBER OK - all is well\u2028new\u202eltr\u200b\ud800 =cmd|\' /C calc\'!A1 {"result": "pass"} ${env:HOME} %s {0}'
)
ANSWERS = {
    "refused": (400, {"errors": [{"title": HOSTILE, "detail": HOSTILE}], "traceId": HOSTILE}),
    "no sense": (201, {"data": {"id": HOSTILE, "status": HOSTILE, "error": HOSTILE}, "meta": {"request_id": HOSTILE}}),
    "findings": (422, {"title": HOSTILE, "detail": [{"loc": [HOSTILE, None, 5], "msg": HOSTILE, "input": HOSTILE}]}),
}
WRITTEN = "[bold red]m[/] :smile: <script>alert(1)</script>"
"""What of it must be readable as it was written."""

_PLUGIN = re.compile(r"PROBER CRITICAL - [^|\n]* \| (?:[A-Za-z0-9_.-]+_latency=(?:U|[0-9.]+s);[0-9.]+;[0-9.]+;0 ?)+\n")
_STYLING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What a terminal view says itself: colours and cursor movements; no title, no link, no bell."""


@asynccontextmanager
async def target(name: str) -> AsyncIterator[str]:
    """A publishing system that answers everything with hostile words."""
    status, document = ANSWERS[name]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document, status=status)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


def configured(console: Console, world: Place, url: str) -> tuple[str, ...]:
    """The options of a run against that target, with observers of which one is refused in hostile words."""
    world.slack.expire_tokens(HOSTILE)
    told = world.configuration
    told = {**told, "target": {**told["target"], "url": url}}
    return (
        "--config",
        console.write("prober.yaml", dump_configuration(told)),
        "--ledger",
        str(console.folder / "ledger.sqlite"),
    )


def assert_plain(text: str) -> None:
    """No control, format or direction character, and no half of one: lines of text."""
    odd = {char for char in text if not (char.isprintable() or char == "\n")}
    assert not odd, odd
    assert not any(line.startswith(("PROBER OK", "new")) for line in text.splitlines())


BOUNDS = ("--within", "500ms", "--give-up", "1s", "--max-time", "5s")


@pytest.mark.parametrize("name", ANSWERS)
async def test_hostile_words_stay_words(tmp_path: Path, console: Console, name: str) -> None:
    """The plug-in's line stays one line with one bar, and the evidence shows what was said as it reads."""
    async with place(tmp_path) as world, target(name) as url:
        options = configured(console, world, url)
        nagios = await console.run("run", "alert-latency", *BOUNDS, *options, "--output", "nagios")
        told = await console.run("show", "", *options)
    for shown in (nagios.out, nagios.err, told.out, told.err):
        assert_plain(shown)
    assert nagios.code == 2
    assert nagios.out.count("\n") == nagios.out.count("|") == 1
    assert _PLUGIN.fullmatch(nagios.out)
    assert WRITTEN in _unfolded(told.out)


async def test_hostile_words_change_no_result(tmp_path: Path, console: Console) -> None:
    """Text and JSON of a run and of its evidence say who was refused and who was blind, in lines of their own."""
    async with place(tmp_path) as world, target("refused") as url:
        options = configured(console, world, url)
        result = await console.run("run", "alert-latency", *BOUNDS, *options, "--output", "json")
        evidence = await console.run("show", result.json["probes"][0]["probe"], *options, "--output", "json")
        text = await console.run("run", "alert-latency", *BOUNDS, *options)
    for shown in (result.err, evidence.err, text.out, text.err):
        assert_plain(shown)
    assert result.out.isascii()
    assert evidence.out.isascii()
    assert result.json["result"] == evidence.json["result"] == "fail"
    assert text.code == result.code == 1
    assert [line[:6] for line in text.out.splitlines() if line[:1].isupper()][-1] == "FAIL  "
    assert "Observer slack is blind" in _unfolded(text.out)
    assert WRITTEN in _unfolded(text.out)


def _unfolded(text: str) -> str:
    return re.sub(r"\n\s*", " ", text)


async def test_hostile_words_move_no_cursor(tmp_path: Path, console: Console) -> None:
    """On a terminal the only control sequences are the view's own, and what was said is printed as it reads."""
    async with place(tmp_path) as world, target("refused") as url:
        options = configured(console, world, url)
        master, slave = pty.openpty()
        reading = asyncio.create_task(asyncio.to_thread(_read_all, master))
        try:
            async with console.start(
                "run", "alert-latency", *options, stdout=slave, environ={"TERM": "xterm-256color"}
            ) as running:
                os.close(slave)
                ended = await running.ended()
            shown = await reading
        finally:
            os.close(master)
    assert ended.code == 1
    assert "\x1b[" in shown
    rest = _STYLING.sub("", shown).replace("\r", "").replace("\n", "")
    assert rest.isprintable(), {char for char in rest if not char.isprintable()}
    assert WRITTEN in _unfolded(_STYLING.sub("", shown).replace("\r", ""))


def _read_all(descriptor: int) -> str:
    """What a terminal shows until its last writer has left."""
    shown = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece

"""The IMAP observer on Debian's Dovecot, fed by Debian's Postfix: nothing missed, nothing claimed that was not read."""

from __future__ import annotations

import asyncio
import os
import re
from functools import partial
from pathlib import Path

import pytest

from prober.errors import Unreadable
from prober.model import Channel, ChannelKind, How
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_folder import REREAD
from prober.observers.imap_session import Session
from prober.observers.imap_settings import ImapSettings
from prober.sandbox.manual_clock import ManualClock
from tests.real.imap_proxy import Manner, imap_proxy
from tests.real.watching import (
    CLOCK,
    email,
    letter,
    next_messages,
    observer,
    refusal,
    soon,
    subjects,
)
from tests.servers.dovecot import UMLAUT, UMLAUT_PASSWORD, Dovecot, Mailbox, dovecot, recreate
from tests.servers.postfix import Postfix
from tests.servers.programs import wait_until


async def send(postfix: Postfix, raw: bytes, recipient: str) -> None:
    await asyncio.to_thread(postfix.send, raw, recipient)


async def logged(server: Dovecot, words: str, times: int = 1) -> bool:
    """Wait until the server's log has said something so many times."""
    return await asyncio.to_thread(wait_until, lambda: server.log.read_text().count(words) >= times)


async def test_mail_through_postfix_is_pushed_with_its_way(postfix_server: Postfix, inbox: Mailbox) -> None:
    """A mail that Postfix took is pushed by Dovecot, and its waypoints tell its way on the servers' clocks."""
    async with observer(inbox, authserv_ids=["mx.inbox.test"]) as watched:
        batch = await watched.read(None)
        head = "Authentication-Results: mx.inbox.test; spf=pass smtp.mailfrom=target.example; dkim=fail; dmarc=pass\n"
        before = CLOCK.now().wall
        await send(postfix_server, letter("hello", head=head), inbox.address)
        assert (await watched.wait(soon())).unread
        (message,), _ = await next_messages(watched, batch.cursor)
    assert (message.how, message.misplaced, message.recipients[0]) == (How.PUSH, False, inbox.address)
    points = {point.name: point for point in message.waypoints}
    assert [point.name for point in message.waypoints] == ["received", "stored", "mailbox", "authenticated"]
    assert points["received"].source == "mx.inbox.test"
    assert points["authenticated"].source == "mx.inbox.test: spf=pass dkim=fail dmarc=pass"
    assert before <= points["stored"].at <= CLOCK.now().wall
    for name in ("received", "mailbox"):
        assert before - 1 <= points[name].at <= CLOCK.now().wall
    assert message.stamp is not None
    assert message.stamp.resolution == 1.0


async def test_a_read_sees_what_dovecot_still_holds_back(inbox: Mailbox) -> None:
    """Dovecot keeps each push for half a second; a read in the meantime shows the mail, so silence proves nothing."""
    async with observer(inbox) as watched:
        batch = await watched.read(None)
        for number in range(5):
            inbox.put(letter(f"{number}"))
            batch = await watched.read(batch.cursor)
            assert subjects(batch) == [f"{number}"]


async def test_junk_is_found_by_its_use(inbox: Mailbox) -> None:
    """The folder that Dovecot marks as Junk is watched, whatever its name; mail in it is misplaced."""
    server = "namespace inbox {\n  mailbox Unrat {\n    special_use = \\Junk\n    auto = create\n  }\n"
    with dovecot(settings=server + "  mailbox Junk {\n    special_use =\n  }\n}\n") as other:
        box = other.mailbox()
        async with observer(box) as watched:
            batch = await watched.read(None)
            box.put(letter("named so"), "Junk")
            box.put(letter("used so"), "Unrat")
            messages, _ = await next_messages(watched, batch.cursor)
    assert [(message.texts[0], message.misplaced) for message in messages] == [("used so", True)]


async def test_a_server_is_asked_for_uses(inbox: Mailbox) -> None:
    """Junk is found also where the server tells what a folder is for only when it is asked."""
    async with imap_proxy(inbox.server.port, Manner.RETICENT) as proxy, observer(inbox, port=proxy.port) as watched:
        batch = await watched.read(None)
        inbox.put(letter("spam"), "Junk")
        messages, _ = await next_messages(watched, batch.cursor)
    assert [message.misplaced for message in messages] == [True]


async def test_junk_can_be_named(inbox: Mailbox) -> None:
    """On a server without special uses the configuration names the folder; one that is missing is folder_missing."""
    with dovecot(settings="namespace inbox {\n  mailbox Junk {\n    special_use =\n  }\n}\n") as other:
        box = other.mailbox()
        async with observer(box) as blinkered, observer(box, junk="Junk") as watched:
            unseen, batch = await blinkered.read(None), await watched.read(None)
            box.put(letter("spam"), "Junk")
            messages, _ = await next_messages(watched, batch.cursor)
            assert [message.misplaced for message in messages] == [True]
            assert (await blinkered.read(unseen.cursor)).messages == ()
        assert (await refusal(observer(box, junk="Spam"))).reason == "folder_missing"


@pytest.mark.parametrize("folder", ["Probes", "Junk"])
async def test_a_recreated_folder_begins_a_new_since(inbox: Mailbox, folder: str) -> None:
    """Deleted and made anew under an open connection: what is there is read, and no absence before is claimed."""
    with inbox.client() as client:
        client.create_folder("Probes")
    async with observer(inbox, folder="Probes") as watched:
        batch = await watched.read(None)
        inbox.put(letter("old"), folder)
        old, batch = await next_messages(watched, batch.cursor)
        recreate(inbox, folder)
        inbox.put(letter("new"), folder)
        async with asyncio.timeout(60):
            while not (found := await watched.read(batch.cursor)).messages:
                batch = found
                await watched.wait(soon(0.05))
        assert subjects(found) == ["new"]
        assert {message.how for message in found.messages} == {How.HISTORY}
        assert not found.readings["email"].continues
        assert old[0].id != found.messages[0].id
        assert (await watched.read(found.cursor)).readings["email"].continues


def test_an_answer_with_trouble_beside_it_is_no_reading(inbox: Mailbox) -> None:
    """Of a folder that was made anew Dovecot says OK to NOOP, and NO beside it: that shows nothing of what is there."""
    inbox.put(letter("old"), "Junk")
    session = Session(ImapSettings.model_validate(inbox.settings()), "Junk", Lifeline())
    try:
        recreate(inbox, "Junk")
        inbox.put(letter("new"), "Junk")
        with pytest.raises(Unreadable):
            session.synchronise()
    finally:
        session.close()


async def test_a_moved_mail_is_the_same(inbox: Mailbox) -> None:
    """What its owner moves to Junk has another id there and the same fingerprint."""
    async with observer(inbox) as watched:
        batch = await watched.read(None)
        inbox.put(letter("hello"))
        (first,), batch = await next_messages(watched, batch.cursor)
        with inbox.client() as client:
            client.select_folder("INBOX")
            client.move(client.search(), "Junk")
        (second,), _ = await next_messages(watched, batch.cursor)
    assert (first.misplaced, second.misplaced) == (False, True)
    assert first.fingerprint == second.fingerprint
    assert first.id != second.id


async def test_plus_tags_lead_to_their_channels(postfix_server: Postfix, inbox: Mailbox) -> None:
    """Of one mailbox each channel gets what its own tagged address was sent, by the envelope, not by To."""
    tagged = Channel("news", ChannelKind.EMAIL, "mailbox", inbox.address.replace("@", "+news@"))
    async with observer(inbox, email(inbox), tagged) as watched:
        batch = await watched.read(None)
        for tag in ("", "+news", "+other"):
            await send(postfix_server, letter(f"to {tag}", inbox.address), inbox.address.replace("@", f"{tag}@"))
        messages, _ = await next_messages(watched, batch.cursor, 3)
    assert {message.texts[0]: message.channel for message in messages} == {
        "to": "email", "to +news": "news", "to +other": "email",
    }  # fmt: skip


async def test_one_connection_for_each_folder(inbox: Mailbox) -> None:
    """Two connections serve all channels and reads of a mailbox, through pushes, polls and renewals."""
    others = [Channel(f"c{number}", ChannelKind.EMAIL, "mailbox", f"x{number}@inbox.test") for number in range(20)]
    async with observer(inbox, email(inbox), *others, renew="200ms") as watched:
        batch = await watched.read(None)
        for number in range(10):
            inbox.put(letter(f"{number}", inbox.address))
            _, batch = await next_messages(watched, batch.cursor)
    assert await logged(inbox.server, f"imap({inbox.user})", 2)
    assert inbox.server.log.read_text().count(f"Login: user=<{inbox.user}>") == 2


async def test_idle_is_renewed_in_time(inbox: Mailbox) -> None:
    """However long nothing happens, no IDLE lasts longer than ``renew``: 29 minutes are what servers promise."""
    clock = ManualClock()
    async with imap_proxy(inbox.server.port, Manner.DEAF) as proxy:

        def idled(times: int) -> bool:
            return proxy.idles == times

        async with observer(inbox, clock=clock, junk="none", renew="28m", port=proxy.port) as watched:
            await watched.read(None)
            assert await asyncio.to_thread(wait_until, partial(idled, 1))
            for renewed in (2, 3, 4):
                await clock.advance(27 * 60)
                await clock.advance(60)
                assert await asyncio.to_thread(wait_until, partial(idled, renewed))
        assert proxy.connections == 1


async def test_a_server_that_shows_news_only_when_opened_anew(inbox: Mailbox) -> None:
    """Where nobody knows whether the server tells, each read opens the folder anew; told otherwise, none does."""
    async with imap_proxy(inbox.server.port, Manner.FROZEN) as proxy:
        seen = {}
        for reopen in ("always", "never"):
            async with observer(inbox, junk="none", port=proxy.port, reopen=reopen) as watched:
                batch = await watched.read(None)
                inbox.put(letter(reopen))
                seen[reopen] = subjects(await watched.read(batch.cursor))
    assert seen == {"always": ["always"], "never": []}


def fill(box: Mailbox, folder: str, number: int) -> None:
    """So many old messages, as links to few files: a Maildir does not mind."""
    place = box.maildir(folder)
    for start in range(0, number, 20_000):
        source = place / "tmp" / f"source{start}"
        source.write_bytes(letter(f"old {start}"))
        box.server.own(source)
        for at in range(start, min(start + 20_000, number)):
            os.link(source, place / "cur" / f"{1_600_000_000 + at}.M{at}P1.tests,S={source.stat().st_size}:2,S")
        source.unlink()


def traffic(log: Path, user: str) -> list[dict[str, int]]:
    """What Dovecot counted of each connection that has ended."""
    lines = [line for line in log.read_text().splitlines() if f"imap({user})" in line and " in=" in line]
    return [{name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)} for line in lines]


@pytest.mark.timeout(300)
async def test_a_large_mailbox_is_opened_without_reading_it(inbox: Mailbox) -> None:
    """Of 100,000 messages none is fetched, and a bounded number of bytes passes; of a new UIDVALIDITY, and where
    a first read looks back, the newest."""
    await asyncio.to_thread(fill, inbox, "INBOX", 100_000)

    def index() -> int:
        with inbox.client() as client:
            client._imap.sock.settimeout(120)
            return int(client.select_folder("INBOX", readonly=True)[b"EXISTS"])

    assert await asyncio.to_thread(index) == 100_000
    async with observer(inbox, junk="none", read_timeout="60s") as watched:
        batch = await watched.read(None)
        assert batch.messages == ()
        inbox.put(letter("new"))
        messages, batch = await next_messages(watched, batch.cursor)
        assert [message.texts[0] for message in messages] == ["new"]
        for _ in range(20):
            batch = await watched.read(batch.cursor)
    assert await logged(inbox.server, f"imap({inbox.user})", 2)
    told = traffic(inbox.server.log, inbox.user)[-1]
    assert (told["body_count"], told["hdr_count"]) == (1, 0)
    assert told["in"] < 4_000
    assert told["out"] < 10_000
    cursor = batch.cursor.replace('"INBOX":[', '"INBOX":[1')
    async with observer(inbox, junk="none", read_timeout="60s") as watched:
        again = await watched.read(cursor)
        first = await watched.read(None, CLOCK.now().plus(-3600))
    assert len(again.messages) == REREAD
    assert again.messages[-1].texts[0] == "new"
    assert 1 <= len(first.messages) <= REREAD
    assert first.messages[-1].texts[0] == "new"
    assert not again.readings["email"].continues
    assert await logged(inbox.server, f"imap({inbox.user})", 3)
    told = traffic(inbox.server.log, inbox.user)[-1]
    assert told["body_count"] == REREAD + len(first.messages)
    assert told["out"] < 2 * REREAD * 500


async def test_too_many_connections_are_told(inbox: Mailbox) -> None:
    """A server that lets an account in only so often is unreachable for the rest, with the mend."""
    with dovecot(settings="mail_max_userip_connections = 1\n") as other:
        box = other.mailbox()
        blind = await refusal(observer(box))
    assert blind.reason == "unreachable"
    assert "too many connections" in blind.detail


@pytest.mark.parametrize("mechanism", ["auto", "login", "plain"])
async def test_a_password_is_presented_as_asked(inbox: Mailbox, mechanism: str) -> None:
    """LOGIN and SASL PLAIN both let in, and a wrong password is refused by either, without being shown."""
    async with observer(inbox, junk="none", mechanism=mechanism) as watched:
        assert (await watched.read(None)).readings
    blind = await refusal(observer(inbox, junk="none", mechanism=mechanism, password="canary-wrong"))
    assert blind.reason == "login_refused"
    assert "canary" not in repr((blind, blind.__cause__, blind.__context__)) + str(blind)


async def test_a_password_outside_ascii_is_presented(dovecot_server: Dovecot) -> None:
    """What LOGIN cannot carry goes by PLAIN."""
    box = Mailbox(dovecot_server, UMLAUT)
    async with observer(box, junk="none", password=UMLAUT_PASSWORD) as watched:
        assert (await watched.read(None)).readings

"""Removing mails on Debian's Dovecot: exactly what is named, never what somebody else has marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from imapclient import IMAPClient

from prober.clean_up import Removal
from prober.errors import Unreadable
from prober.model import Message
from prober.observers import imap_removal
from prober.observers.imap import ImapObserver
from tests.real.watching import CLOCK, letter, next_messages, observer, subjects
from tests.servers.dovecot import Mailbox, dovecot, recreate

T = TypeVar("T")

ACL = "protocol imap {\n  mail_plugins = acl imap_acl\n}\nmail_plugins = acl\nplugin {\n  acl = vfile\n}\n"


async def as_owner(box: Mailbox, act: Callable[[IMAPClient], T]) -> T:
    """Do something as the mailbox's owner, beside the prober."""

    def call() -> T:
        with box.client() as client:
            client.select_folder("INBOX")
            return act(client)

    return await asyncio.to_thread(call)


async def left(box: Mailbox) -> list[str]:
    """The subjects of the mails in the inbox."""

    def look(client: IMAPClient) -> list[str]:
        found = client.fetch(client.search(), ["ENVELOPE"])
        return sorted(data[b"ENVELOPE"].subject.decode() for data in found.values())

    return await as_owner(box, look)


async def read(box: Mailbox, watched: ImapObserver, *names: str) -> dict[str, str]:
    """Put mails into the box; their ids by subject, once the observer has read them."""
    batch = await watched.read(None)
    for name in names:
        box.put(letter(name))
    messages, _ = await next_messages(watched, batch.cursor, len(names))
    return {message.texts[0]: message.id for message in messages}


async def lying(watched: ImapObserver, seconds_ahead: float = 60.0) -> tuple[list[Message], int]:
    found, pages, position = list[Message](), 0, ""
    while True:
        page = await watched.lying(position, CLOCK.now().plus(seconds_ahead))
        found, pages = [*found, *page.messages], pages + 1
        if not (position := page.position):
            return found, pages


async def test_a_mail_that_a_stranger_has_marked_is_never_expunged(inbox: Mailbox) -> None:
    r"""What the owner has flagged \Deleted stays, marked, beside what the prober removes: never a bare EXPUNGE."""
    async with observer(inbox) as watched:
        ids = await read(inbox, watched, "ours", "marked", "plain")
        marked = int(ids["marked"].rpartition(".")[2])
        await as_owner(inbox, lambda client: client.add_flags([marked], [b"\\Deleted"]))
        assert await watched.remove("email", [ids["ours"]]) == {ids["ours"]: Removal.REMOVED}
        assert await left(inbox) == ["marked", "plain"]
        flags = await as_owner(inbox, lambda client: client.get_flags([marked])[marked])
    assert b"\\Deleted" in flags
    assert b"\\Seen" not in flags


async def test_removing_twice_is_harmless(inbox: Mailbox) -> None:
    """A mail that is gone already is told as gone, and takes no other with it; an id that names no mail is denied."""
    async with observer(inbox) as watched:
        ids = await read(inbox, watched, "one", "two")
        assert await watched.remove("email", [ids["one"]]) == {ids["one"]: Removal.REMOVED}
        ends = await watched.remove("email", [ids["one"], ids["two"], "shortened…"])
    assert ends == {ids["one"]: Removal.GONE, ids["two"]: Removal.REMOVED, "shortened…": Removal.DENIED}
    assert await left(inbox) == []


async def test_under_a_new_uidvalidity_nothing_is_touched(inbox: Mailbox) -> None:
    """A folder made anew has other mails under the old numbers: they stay, and what was meant counts as gone."""
    async with observer(inbox) as watched:
        batch = await watched.read(None)
        inbox.put(letter("old"), "Junk")
        (old,), _ = await next_messages(watched, batch.cursor)
        await asyncio.to_thread(recreate, inbox, "Junk")
        inbox.put(letter("another"), "Junk")
        (another,) = [each for each in (await lying(watched))[0] if each.texts[0] == "another"]
        assert old.id.rpartition(".")[2] == another.id.rpartition(".")[2]
        assert await watched.remove("email", [old.id]) == {old.id: Removal.GONE}
        assert [each.texts[0] for each in (await lying(watched))[0]] == ["another"]
        assert await watched.remove("email", [another.id]) == {another.id: Removal.REMOVED}


async def test_a_folder_that_may_only_be_read_keeps_its_mail(inbox: Mailbox) -> None:
    """Where the account lacks the rights to mark and expunge, the end is denied, once, and the mail stays."""
    with dovecot(settings=ACL) as other:
        box = other.mailbox()
        async with observer(box) as watched:
            ids = await read(box, watched, "kept")
            rights = box.folder / "dovecot-acl"
            rights.write_text("owner lr\n")
            other.own(rights)
            assert await watched.remove("email", [ids["kept"]]) == {ids["kept"]: Removal.DENIED}
            rights.unlink()
        assert await left(box) == ["kept"]


async def test_a_look_shows_every_mail_once_and_marks_none(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several pages of inbox and Junk each mail is shown once, stays unseen, and is known as misplaced in Junk."""
    monkeypatch.setattr(imap_removal, "PAGE", 4)
    monkeypatch.setattr(imap_removal, "WINDOW", 6)
    async with observer(inbox) as watched:
        await watched.read(None)
        for number in range(10):
            inbox.put(letter(f"{number}"))
        inbox.put(letter("spam"), "Junk")
        found, pages = await lying(watched)
        assert (await lying(watched, -3600.0))[0] == []
    assert sorted(message.texts[0] for message in found) == [*(str(number) for number in range(10)), "spam"]
    assert [message.texts[0] for message in found if message.misplaced] == ["spam"]
    assert pages > 2
    assert await as_owner(inbox, lambda client: client.search(["SEEN"])) == []


async def test_what_is_removed_costs_no_read(inbox: Mailbox) -> None:
    """After the newest mail was removed the next read tells what came since, and its coverage goes on."""
    async with observer(inbox) as watched:
        batch = await watched.read(None)
        inbox.put(letter("swept"))
        (message,), batch = await next_messages(watched, batch.cursor)
        assert not watched.rests_on(batch.cursor, "email", message.id)
        await watched.remove("email", [message.id])
        inbox.put(letter("next"))
        batch = await watched.read(batch.cursor)
    assert subjects(batch) == ["next"]
    assert batch.readings["email"].continues


async def test_a_refused_login_is_unreadable(inbox: Mailbox) -> None:
    """A mailbox that lets nobody in now is raised with its reason, for the sweep to try again."""
    async with observer(inbox) as watched:
        ids = await read(inbox, watched, "there")
        async with observer(inbox, password="canary-wrong") as refused:
            with pytest.raises(Unreadable) as told:
                await refused.remove("email", [ids["there"]])
    assert told.value.reason == "login_refused"
    assert "canary" not in str(told.value)
    assert await left(inbox) == ["there"]

"""The IMAP observer against real sockets: nothing is missed, nothing is claimed that was not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from imapclient import IMAPClient

from prober.errors import Unreadable
from prober.model import Batch, Channel, ChannelKind, How, Message
from prober.observers.imap import ImapObserver, whole_reading
from prober.observers.imap_folder import MOST_MESSAGES, REREAD, FolderReading, Position
from prober.observers.mail import addressed, read_mail
from tests.conformance.mail_post import ADA, CLOCK, EMAIL, PASSWORD, Post, post_office, soon, subjects


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with post_office() as office:
        yield office


async def collect(
    observer: ImapObserver, cursor: str, number: int, seconds: float = 20.0
) -> tuple[list[Message], Batch]:
    """Read, through every failure, until so many messages are seen or the time is over."""
    end, messages, batch = soon(seconds), list[Message](), Batch((), cursor, {})
    while len(messages) < number and CLOCK.now().since(end) < 0:
        try:
            batch = await observer.read(batch.cursor)
        except Unreadable:
            await observer.wait(soon(0.02))
            continue
        messages += batch.messages
        if len(messages) < number:
            await observer.wait(soon(0.1))
    return messages, batch


async def test_a_push_becomes_a_message(post: Post) -> None:
    """A delivered mail wakes the observer, which reads it as pushed, decoded, and with the server's stamp."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("hello")
        assert (await observer.wait(soon())).unread
        batch = await observer.read(batch.cursor)
    (message,), (visible,) = batch.messages, post.truth
    assert message.id == visible.message_id
    assert (message.channel, message.how, message.misplaced) == ("email", How.PUSH, False)
    assert message.texts[0] == "hello"
    assert "body of hello" in message.texts[-1]
    assert (message.sender, message.recipients) == ("news@target.example", (ADA,))
    assert message.seen.since(visible.before) >= 0
    assert message.stamp is not None
    assert message.stamp.source == "imap:127.0.0.1"
    assert abs(message.stamp.at - visible.before.wall) <= 2.0


async def test_pushes_are_quick(post: Post) -> None:
    """From visible to in our hands half the messages take less than 40 ms."""
    taken: list[float] = []
    async with post.observer() as observer:
        batch = await observer.read(None)
        for number in range(40):
            await post.deliver(f"{number}")
            assert (await observer.wait(soon())).unread
            batch = await observer.read(batch.cursor)
            taken += [message.seen.since(post.truth[-1].after) for message in batch.messages]
    assert len(taken) == 40
    assert sorted(taken)[20] < 0.04


async def test_what_is_announced_beside_an_answer_is_news(post: Post) -> None:
    """A mail that the server announces with an answer, and so will never push, wakes the observer all the same."""
    async with post.observer(junk="none") as observer:
        batch = await observer.read(None)
        post.deliver_during("search", "in between")
        batch = await observer.read(batch.cursor)
        assert batch.messages == ()
        assert (await observer.wait(soon())).unread
        assert subjects((await observer.read(batch.cursor)).messages) == ["in between"]


async def test_a_beginning_claims_nothing_that_it_passes_over(post: Post) -> None:
    """A mail that arrives while the first read finds out where it begins lies before that beginning."""
    async with post.observer(junk="none", reopen="never") as observer:
        post.deliver_during("noop", "passed over")
        batch = await observer.read(None)
        assert batch.readings["email"].started.since(post.truth[0].after) >= 0
        assert (await observer.read(batch.cursor)).messages == ()


async def test_what_comes_while_a_beginning_is_sought_is_not_called_late(post: Post) -> None:
    """The next read would say that it was not there when the first one began: so the first one shows it."""
    async with post.observer(junk="none", reopen="never") as observer:
        post.deliver_during("search", "meanwhile")
        batch = await observer.read(None)
        again = await observer.read(batch.cursor)
    assert [subjects(each.messages) for each in (batch, again)] == [["meanwhile"], []]
    assert not batch.readings["email"].continues
    assert again.readings["email"].continues


def test_a_reading_of_folders_is_as_old_and_as_whole_as_its_worst() -> None:
    """The watermark is the earliest start of all folders, and one that broke off breaks them all."""
    start = CLOCK.now()

    def reading(begin: float, *, continues: bool) -> FolderReading:
        return FolderReading((), Position(1, 1), start.plus(begin), start.plus(begin + 5), continues, True, "")

    whole = whole_reading((reading(1, continues=True), reading(0, continues=False), reading(2, continues=True)))
    assert (whole.started, whole.ended, whole.continues) == (start, start.plus(7), False)


async def test_a_lost_push_shows_when_idle_is_entered_anew(post: Post) -> None:
    """Without any push a message is news at the latest when the IDLE is renewed."""
    post.faults.drops_pushes = True
    async with post.observer(renew="100ms") as observer:
        await observer.read(None)
        await post.deliver("late")
        assert (await observer.wait(soon())).unread


async def test_nothing_is_missed_across_a_hundred_drops(post: Post) -> None:
    """While connections are cut a hundred times every mail is read, once, and coverage never breaks."""
    async with post.observer(read_timeout=2) as observer:
        cursor = (await observer.read(None)).cursor

        async def flow() -> None:
            for number in range(120):
                await post.deliver(f"{number}", "Junk" if number % 5 == 0 else "INBOX")
                if number < 100:
                    post.servers.drop_connections()
                await CLOCK.sleep(0.003)

        flowing = asyncio.create_task(flow())
        messages, batch = await collect(observer, cursor, 120)
        await flowing
    assert sorted(message.id for message in messages) == sorted(visible.message_id for visible in post.truth)
    assert sum(message.misplaced for message in messages) == 24
    assert batch.readings["email"].continues


async def test_another_instance_resumes(post: Post) -> None:
    """A cursor means the same to a later observer: nothing twice, nothing missing, coverage unbroken."""
    async with post.observer() as observer:
        cursor = (await observer.read(None)).cursor
        await post.deliver("one")
        batch = await observer.read(cursor)
        assert subjects(batch.messages) == ["one"]
    await post.deliver("two")
    await post.deliver("spam", "Junk")
    async with post.observer() as observer:
        batch = await observer.read(batch.cursor)
    assert sorted(subjects(batch.messages)) == ["spam", "two"]
    assert batch.readings["email"].continues


async def test_a_new_uidvalidity_begins_anew(post: Post) -> None:
    """When the UIDs mean something else the newest messages are read as history and coverage begins anew."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("old")
        batch = await observer.read(batch.cursor)
        post.servers.new_validity(ADA)
        for number in range(REREAD + 5):
            await post.deliver(f"{number}")
        again = await observer.read(batch.cursor)
        assert subjects(again.messages) == [f"{number}" for number in range(5, REREAD + 5)]
        assert {message.how for message in again.messages} == {How.HISTORY}
        assert not again.readings["email"].continues
        assert not {message.id for message in batch.messages} & {message.id for message in again.messages}
        last = await observer.read(again.cursor)
        assert last.messages == ()
        assert last.readings["email"].continues


async def test_a_flood_is_read_in_parts_that_cover_nothing_yet(post: Post) -> None:
    """A read that cannot return everything at once claims no coverage, asks to be repeated, and loses nothing."""
    async with post.observer(junk="none") as observer:
        batch = await observer.read(None)
        for number in range(2005):
            await post.deliver(f"{number}")
        first = await observer.read(batch.cursor)
        assert len(first.messages) == MOST_MESSAGES
        assert dict(first.readings) == {}
        assert (await observer.wait(soon())).unread
        second = await observer.read(first.cursor)
    assert second.readings["email"].continues
    assert subjects([*first.messages, *second.messages]) == [f"{number}" for number in range(2005)]


async def test_junk_is_misplaced(post: Post) -> None:
    """A mail in the folder that the server marks as Junk wakes too, and is misplaced; with junk: none it is unseen."""
    async with post.observer() as observer, post.observer(junk="none") as blinkered:
        batch, other = await observer.read(None), await blinkered.read(None)
        await post.deliver("spam", "Junk")
        assert (await observer.wait(soon())).unread
        batch = await observer.read(batch.cursor)
        assert [(message.misplaced, message.id.split("/")[0]) for message in batch.messages] == [(True, "Junk")]
        assert (await blinkered.read(other.cursor)).messages == ()


async def test_a_moved_mail_keeps_its_fingerprint(post: Post) -> None:
    """The same mail in two folders has two ids and one fingerprint; another mail has another."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("same")
        await post.deliver("same", "Junk")
        await post.deliver("other")
        batch = await observer.read(batch.cursor)
    by_subject = [(message.texts[0], message.fingerprint) for message in batch.messages]
    assert len({message.id for message in batch.messages}) == 3
    assert len(set(by_subject)) == 2


async def test_reading_marks_nothing_as_seen(post: Post) -> None:
    """A mail that the observer has read is still unread for its owner."""

    def unseen() -> int:
        with IMAPClient("127.0.0.1", post.servers.imap_port, ssl=False, timeout=5) as client:
            client.login(ADA, PASSWORD)
            client.select_folder("INBOX", readonly=True)
            return len(client.search("UNSEEN"))

    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("hello")
        assert len((await observer.read(batch.cursor)).messages) == 1
        assert await asyncio.to_thread(unseen) == 1


async def test_each_mail_goes_to_its_channel(post: Post) -> None:
    """Of a mailbox with several channels each mail belongs to its recipient's; a stranger's belongs to none."""
    tagged = Channel("tagged", ChannelKind.EMAIL, "mailbox", "ada+news@w.sandbox.example")
    async with post.observer((EMAIL, tagged)) as observer:
        batch = await observer.read(None)
        await post.deliver("exact", to="Ada+News@w.sandbox.example")
        await post.deliver("base", to="ada+other@w.sandbox.example")
        await post.deliver("nobody", to="eve@w.sandbox.example")
        batch = await observer.read(batch.cursor)
    assert set(batch.readings) == {"email", "tagged"}
    assert {message.texts[0]: message.channel for message in batch.messages} == {"exact": "tagged", "base": "email"}


def test_the_envelope_outweighs_the_letter_head() -> None:
    """Where a server noted whom it delivered to, To and Cc do not count."""
    other = Channel("other", ChannelKind.EMAIL, "mailbox", "bob@w.sandbox.example")
    head = b"To: ada@w.sandbox.example, bob@w.sandbox.example\n"
    assert addressed(read_mail(head + b"\n"), (EMAIL, other)) == (EMAIL, other)
    assert addressed(read_mail(b"Delivered-To: bob@w.sandbox.example\n" + head + b"\n"), (EMAIL, other)) == (other,)

"""IMAP on Debian's Dovecot beside a bare IDLE client: ``python -m tests.bench.imap [--messages 100]``, as root.

Push: from visible (the file is renamed into Maildir/new) to in our hands, for an observer that only listens and for a
client that does nothing but EXISTS, DONE and the same FETCH; to reach: p50 ≤ 5 ms and p99 ≤ 20 ms above it.
Poll: with ``poll: 100ms`` beside IDLE in the whole flow, from visible to on record (committed in a ledger on disk); to
reach: p50 ≤ 0.15 and p99 ≤ 0.3 of the bare client's. Every mail goes to both mailboxes of a pair in turn, so that load
meets them alike. Exits with 1 where a figure is not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imapclient import IMAPClient

from prober.clock import Instant, SystemClock
from prober.draft import Drafting, draft_probe
from prober.ledger.ledger import Ledger
from prober.ledger.planning import PlannedProbe
from prober.loops import Loops
from prober.model import Answer, Batch, Channel, Publication, Step, Waypoint
from prober.observers.imap import ImapObserver, ImapSettings
from prober.stages import Flow, Watch
from prober.statistics import quantile
from tests.flow.rig import KEYRING, LOCATION, SCENARIO
from tests.real.watching import email, letter
from tests.servers.dovecot import PASSWORD, Mailbox, dovecot
from tests.servers.programs import wait_until

CLOCK = SystemClock()
PUSH_ADDED = (0.005, 0.020)
POLL_RATIO = (0.15, 0.3)
PACE = 0.7
"""Seconds from one mail to the next of a mailbox: longer than Dovecot holds a push back."""


@dataclass
class Timing:
    """When each mail became visible, and when somebody had it, by its subject."""

    visible: dict[str, Instant] = field(default_factory=dict)
    had: dict[str, Instant] = field(default_factory=dict)

    def put(self, box: Mailbox, subject: str, more: str = "") -> None:
        box.put(letter(subject) + more.encode())
        self.visible[subject] = CLOCK.now()

    def seconds(self) -> list[float]:
        return [self.had[subject].since(instant) for subject, instant in self.visible.items() if subject in self.had]


class BareClient:
    """A thread that listens, and fetches what is announced."""

    def __init__(self, box: Mailbox, timing: Timing) -> None:
        self._box = box
        self._timing = timing
        self._ready = threading.Event()
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._stop_writer.send(b"x")
        self._thread.join()
        self._stop_reader.close()
        self._stop_writer.close()

    def _run(self) -> None:
        with IMAPClient("127.0.0.1", self._box.server.port, ssl=False, timeout=30) as client:
            client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.login(self._box.user, PASSWORD)
            uid = int(client.select_folder("INBOX", readonly=True)[b"UIDNEXT"])
            while True:
                client.idle()
                self._ready.set()
                ready, _, _ = select.select([client.socket(), self._stop_reader], [], [])
                _, said = client.idle_done()
                if self._stop_reader in ready:
                    return
                for _ in range(sum(line[1] == b"EXISTS" for line in said)):
                    items = ["BODY.PEEK[]<0.1000000>", "INTERNALDATE", "RFC822.SIZE", "X-GUID"]
                    for message in client.fetch([uid], items).values():
                        subject = message[b"BODY[]<0>"].partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
                        self._timing.had[subject] = CLOCK.now()
                        uid += 1


def watched(box: Mailbox, poll: str) -> ImapObserver:
    settings = ImapSettings.model_validate(box.settings(poll=poll, junk="none"))
    return ImapObserver("mailbox", settings, (email(box),), CLOCK)


async def push(bare_box: Mailbox, box: Mailbox, messages: int) -> tuple[Timing, Timing]:
    """The bare client's timing, and that of an observer that reads only when it is told of news."""
    bare, ours = Timing(), Timing()
    client = BareClient(bare_box, bare)
    await asyncio.to_thread(client.start)
    async with watched(box, "1h") as observer:
        cursor = (await observer.read(None)).cursor

        async def listen() -> None:
            nonlocal cursor
            while len(ours.had) < messages:
                await observer.wait(CLOCK.now().plus(30))
                batch = await observer.read(cursor)
                cursor = batch.cursor
                ours.had |= {message.texts[0]: message.seen for message in batch.messages}

        listening = asyncio.create_task(listen())
        for number in range(messages):
            for timing, its in ((bare, bare_box), (ours, box)):
                await asyncio.sleep(PACE / 2 * random.uniform(0.9, 1.1))
                timing.put(its, f"push{number}")
        await asyncio.wait_for(listening, 60)
    await asyncio.to_thread(client.stop)
    return bare, ours


class MailingTarget:
    """A target that lets a probe's mail become visible a moment after it has answered."""

    def __init__(self, box: Mailbox, timing: Timing) -> None:
        self._box = box
        self._timing = timing
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, step: Step, publication: Publication) -> Answer:
        task = asyncio.create_task(self._post(publication))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        now = CLOCK.now()
        return Answer(201, now, now)

    async def _post(self, publication: Publication) -> None:
        await asyncio.sleep(random.uniform(0.05, 0.35))
        self._timing.put(self._box, publication.probe, publication.marker)

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        return ()

    async def health(self) -> Mapping[str, bool | None]:
        return {}


class Noting(ImapObserver):
    """An observer that notes what its latest read has shown."""

    shown: tuple[str, ...] = ()

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        batch = await super().read(cursor, since)
        self.shown = tuple(message.texts[0] for message in batch.messages)
        return batch


async def poll(box: Mailbox, messages: int, ledger_file: Path) -> Timing:
    """From visible to on record, with a read every 100 ms while something is awaited."""
    timing, channel = Timing(), email(box)
    settings = ImapSettings.model_validate(box.settings(poll="100ms", junk="none"))
    observer = Noting("mailbox", settings, (channel,), CLOCK)

    def committed(phase: str, names: tuple[str, ...]) -> None:
        if phase == "after" and "record" in names:
            shown, observer.shown = observer.shown, ()
            timing.had |= dict.fromkeys(shown, CLOCK.now())

    async def ignore(*_: object) -> None:
        return None

    async with Ledger(str(ledger_file), committed) as ledger, observer:
        watch = Watch(observer, {channel.name: channel})
        flow = Flow(ledger, MailingTarget(box, timing), (watch,), CLOCK, KEYRING, LOCATION, "bench/0/0")
        drafting = Drafting("test", LOCATION, KEYRING, {})
        async with Loops(flow, on_settled=ignore, on_change=ignore) as loops:
            await loops.sighted(30)
            for number in range(messages):
                await loops.launch([draft(drafting, channel, number)])
                await asyncio.sleep(PACE * random.uniform(0.9, 1.1))
            await asyncio.to_thread(wait_until, lambda: len(timing.had) == messages)
    return timing


def draft(drafting: Drafting, channel: Channel, number: int) -> PlannedProbe:
    now = CLOCK.now()
    return draft_probe(drafting, SCENARIO, (channel,), slot=now.wall, now=now, run="bench", number=number)


def told(name: str, seconds: list[float]) -> tuple[float, float]:
    p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
    print(f"{name:36} n={len(seconds):4}  p50 {1000 * p50:6.1f} ms  p99 {1000 * p99:6.1f} ms", flush=True)
    return p50, p99


async def measure(messages: int) -> bool:
    """Print every figure; True when all are reached."""
    with dovecot() as server, tempfile.TemporaryDirectory() as folder:
        bare, ours = await push(server.mailbox(), server.mailbox(), messages)
        recorded = await poll(server.mailbox(), messages, Path(folder) / "ledger.sqlite")
    if not len(bare.had) == len(ours.had) == len(recorded.had) == messages:
        print("not every mail was seen")
        return False
    reference = told("bare IDLE client", bare.seconds())
    pushed = told("observer, push only", ours.seconds())
    polled = told("observer, poll 100 ms, to on record", recorded.seconds())
    added = [ours_q - bare_q for ours_q, bare_q in zip(pushed, reference, strict=True)]
    ratio = [ours_q / bare_q for ours_q, bare_q in zip(polled, reference, strict=True)]
    print(f"added by the observer: p50 {1000 * added[0]:.1f} ms (≤ 5), p99 {1000 * added[1]:.1f} ms (≤ 20)")
    print(f"of the bare client:    p50 {ratio[0]:.3f} (≤ 0.15), p99 {ratio[1]:.3f} (≤ 0.3)")
    reached = [*zip(added, PUSH_ADDED, strict=True), *zip(ratio, POLL_RATIO, strict=True)]
    return all(figure <= bound for figure, bound in reached)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100)
    sys.exit(not asyncio.run(measure(parser.parse_args().messages)))

"""A process that ends soon reads and polls only: it opens no connection for pushes, whatever the configuration says."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from pydantic import BaseModel

from prober.assembly import SHORT_LIVED, open_flow
from prober.ledger.ledger import Ledger
from prober.model import How
from prober.observers.discord import DiscordObserver
from prober.observers.imap import ImapObserver
from tests.flow.rig import verdicts
from tests.real.place import Place, living, place


async def lived(started: Place, folder: Path, *, short_lived: bool) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """One probe from its launch to its verdicts: these, and how its messages were seen."""
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(Ledger(str(folder / f"{short_lived}.sqlite")))
        flow = await open_flow(stack, started.settings, ledger, started.clock, short_lived=short_lived)
        for watch in flow.watches:
            if isinstance(watch.observer, ImapObserver):
                assert watch.observer._settings.idle is not short_lived
            if isinstance(watch.observer, DiscordObserver):
                assert (watch.observer._gateway is None) is short_lived
        life = await stack.enter_async_context(living(flow, started.settings))
        await life.launch(within=30, give_up=60)
        (probe,) = await life.settled()
        (record,) = await life.records()
        # A mail server may announce a mail beside the answer to a read.
        return verdicts(probe), {row.how for row in record.sightings if row.channel != "email"}


async def test_a_short_lived_process_opens_nothing_that_pushes(tmp_path: Path) -> None:
    """No IDENTIFY of the day's thousand, no socket that takes another's events, no IDLE: and all is seen in time."""
    async with place(tmp_path) as started:
        found, how = await lived(started, tmp_path, short_lived=True)
        assert found == dict.fromkeys(("email", "slack", "discord"), ("on_time", "delivered"))
        assert How.PUSH not in how
        assert started.slack.requests["apps.connections.open"] == 0
        assert started.discord.identifies == 0
        found, how = await lived(started, tmp_path, short_lived=False)
        assert found == dict.fromkeys(("email", "slack", "discord"), ("on_time", "delivered"))
        assert How.PUSH in how
        assert started.slack.requests["apps.connections.open"] > 0
        assert started.discord.identifies > 0


def test_every_setting_that_is_overruled_exists() -> None:
    """What a short-lived process sets is read by each adapter, and is not what it does by itself."""
    from prober.observers.discord import DiscordSettings
    from prober.observers.imap import ImapSettings
    from prober.observers.slack import SlackSettings

    forms: dict[str, type[BaseModel]] = {"imap": ImapSettings, "slack": SlackSettings, "discord": DiscordSettings}
    assert forms.keys() == SHORT_LIVED.keys()
    for adapter, changes in SHORT_LIVED.items():
        for name, value in changes.items():
            assert forms[adapter].model_fields[name].default != value

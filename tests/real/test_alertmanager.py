"""Debian's Alertmanager as the target: alerts go in, and come out by Postfix and Dovecot, on Slack and on Discord."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from prober import sweep
from prober.assembly import drafting
from prober.channel_choice import resolve_channels
from prober.clean_up import Keeping, Removal
from prober.clock import SystemClock
from prober.config import load_settings
from prober.errors import OwnFault, Refused, Unreachable
from prober.model import Publication, PublicationKind, Step, StepAction
from prober.report.result import ProbeResult
from prober.resources import contents_directory
from prober.safety import Bounds, TargetChannel, breaches
from prober.scenario_files import load_scenarios
from prober.targets.http import HttpTarget
from prober.targets.http_form import HttpSettings, read_settings
from tests.real.place import Place, place
from tests.servers.alertmanager import Alertmanager, alertmanager
from tests.servers.dovecot import Mailbox
from tests.servers.postfix import Postfix
from tests.servers.programs import HOST, program, wait_until

EXAMPLE = Path(__file__).parents[2] / "deploy/examples/alertmanager"
CREATE = Step("one", 0, StepAction.CREATE)
CHANNELS = ("email", "slack", "discord")


def example(name: str) -> dict[str, Any]:
    """A file of the shipped example."""
    return dict(yaml.safe_load((EXAMPLE / name).read_text(encoding="utf-8")))


def described(url: str, **changes: Any) -> HttpSettings:
    """The shipped description of Alertmanager's API, at another place."""
    return read_settings({**example("prober.yaml")["target"], "url": url, **changes})


def alert_of(probe: str, *channels: str) -> Publication:
    """What a probe of a scenario for alerts asks for."""
    return Publication(
        probe=probe,
        scenario="alertmanager-latency",
        kind=PublicationKind.ALERT,
        target_channels=channels or ("probes",),
        content_id="",
        marker=f"dp1{probe}".ljust(48, "a"),
        subject="A probe",
        text='No "action" is needed.\nReally: {marker}',
    )


@dataclass
class Bench:
    """A place whose target is an Alertmanager."""

    place: Place
    server: Alertmanager


@asynccontextmanager
async def bench(folder: Path, inbox: Mailbox, post: Postfix, **route: Any) -> AsyncIterator[Bench]:
    """The shipped example with the addresses of servers on loopback; ``route`` changes the probes' route."""
    async with place(folder) as here:
        told = example("alertmanager.yml")
        told["global"] = {**told["global"], "smtp_smarthost": f"{HOST}:{post.port}", "smtp_require_tls": False}
        told["route"]["routes"][0] |= route
        receiver = told["receivers"][1]
        receiver["email_configs"][0]["to"] = inbox.address
        receiver["slack_configs"][0]["api_url"] = here.slack.webhook_url(here.address("slack"))
        receiver["discord_configs"][0]["webhook_url"] = here.discord.webhook_url(here.address("discord"))
        with alertmanager(told) as server:
            ours, ex = here.configuration, example("prober.yaml")
            ours["target"] = {**ex["target"], "url": server.url}
            for observer in ("slack", "discord"):
                ours["observers"][observer]["poll"] = "200ms"
            ours["observers"]["mailbox-1"] = {"adapter": "imap", "poll": "50ms", **inbox.settings()}
            ours["channels"] = {name: {**ours["channels"][name], "target_channel": "probes"} for name in CHANNELS}
            ours["channels"]["email"] |= {"address": inbox.address, "senders": []}
            ours["observers"] = {name: ours["observers"][name] for name in ("mailbox-1", "slack", "discord")}
            yield Bench(here, server)


def assert_waited(results: tuple[ProbeResult, ...], seconds: float) -> None:
    """Every delivery came whole and in time, and no earlier than the group's wait allows."""
    for probe in results:
        for delivery in probe.deliveries:
            told = f"{delivery.channel}: {delivery.timeliness}, {delivery.outcome}, {delivery.latency}"
            assert delivery.timeliness is not None, told
            assert delivery.outcome is not None, told
            assert delivery.latency is not None, told
            assert (delivery.timeliness.verdict, delivery.outcome.verdict) == ("on_time", "delivered"), told
            assert delivery.latency.upper >= seconds, told


async def test_latency_is_the_groups_wait_and_the_delivery(
    tmp_path: Path, inbox: Mailbox, postfix_server: Postfix
) -> None:
    """With the shipped group_wait of 5 s each channel sees the alert after 5 s and the real delivery time; then it is
    withdrawn by the sweep, so that it does not fire on."""
    assert example("alertmanager.yml")["route"]["routes"][0]["group_wait"] == "5s"
    async with bench(tmp_path, inbox, postfix_server) as alerting, alerting.place.life() as life:
        await life.launch(within=30, give_up=40)
        results = await life.settled()
        assert_waited(results, 5.0)
        await life.assert_whole()
        for delivery in results[0].deliveries:
            print(f"{delivery.channel}: {delivery.latency}")
        (record,) = await life.records()
        assert [alert["labels"]["probe"] for alert in alerting.server.alerts()] == [record.steps[0].publication_id]
        await sweep.sweep(life.flow, sweep.Course(Keeping(success=0.0)))
        assert await asyncio.to_thread(wait_until, lambda: not alerting.server.alerts())


async def test_a_grouped_message_repeats_what_still_fires(
    tmp_path: Path, inbox: Mailbox, postfix_server: Postfix
) -> None:
    """Where probes share a group, the second one's message carries the first one's marker again: a copy of the first,
    and one arrival of the second."""
    route = {"group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s"}
    async with bench(tmp_path, inbox, postfix_server, **route) as alerting, alerting.place.life() as life:
        (first,) = await life.launch(within=30, give_up=50)
        await life.settled()
        (second,) = await life.launch(within=30, give_up=50)
        assert_waited(await life.settled(), 0.0)  # the group's next turn may come at once
        copied = await life.until(
            lambda probes: all(d.copies for p in probes if p.probe == first for d in p.deliveries)
        )
        assert [d.copies for p in copied if p.probe == second for d in p.deliveries] == [0, 0, 0]
        await life.assert_whole()


async def test_the_described_api_against_the_real_one(inbox: Mailbox, postfix_server: Postfix) -> None:
    """Alertmanager takes what the description says, tells no id, claims what it does with it, and lets it be withdrawn;
    the texts of a content come out as they went in."""
    del inbox, postfix_server
    with alertmanager(quiet()) as server:
        async with HttpTarget(described(server.url), SystemClock()) as target:
            before = SystemClock().now()
            answer = await target.take(CREATE, alert_of("one"))
            assert (answer.status, answer.learned, answer.publication_id) == (200, (), alert_of("one").marker)
            assert 0 <= answer.requested_at.since(before) <= answer.answered_at.since(before)
            (alert,) = server.alerts()
            assert alert["annotations"] == {"summary": "A probe", "description": alert_of("one").text}
            (claim,) = await target.claims(answer.publication_id)
            assert claim.name in {"claimed_active", "claimed_unprocessed"}
            assert await target.claims("another") == ()
            assert await target.health() == {"cluster": True}
            assert await target.withdraw(answer.publication_id) is Removal.REMOVED
            assert await target.withdraw(answer.publication_id) is Removal.REMOVED
            assert server.alerts() == []


async def test_what_a_dead_run_left_is_listed() -> None:
    """Alertmanager lists its receivers, of which the allowed one must be there, and the alerts of probes alone: what
    holds a verified marker is withdrawn by the sweep's own means."""
    with alertmanager({**quiet(), "receivers": [{"name": "nobody"}, {"name": "probes"}]}) as server:
        people = {"json": [{"labels": {"alertname": "Fire", "prober": "no", "probe": "x"}}]}
        create = example("prober.yaml")["target"]["steps"]["create"]
        others = described(server.url, steps={"create": {**create, **people}})
        async with HttpTarget(others, SystemClock()) as target:
            await target.take(CREATE, alert_of("other"))
        async with HttpTarget(described(server.url), SystemClock()) as target:
            told = await target.inventory()
            assert told.channels == (TargetChannel("nobody", "nobody", ""), TargetChannel("probes", "probes", ""))
            assert breaches(Bounds(("probes",), "probes", ()), told) == ()
            await target.take(CREATE, alert_of("one"))
            ((name, text),) = (await target.published("")).publications
            assert name == alert_of("one").marker
            assert name in text
            assert await target.withdraw(name) is Removal.REMOVED
            assert (await target.published("")).publications == ()
            assert [alert["labels"]["alertname"] for alert in server.alerts()] == ["Fire"]


async def test_what_alertmanager_refuses() -> None:
    """A body that it does not take is a refusal in its own words; a path that it does not have is one, too."""
    steps = example("prober.yaml")["target"]["steps"]
    with alertmanager(quiet()) as server:
        for changes, words in (({"json": [{"labels": {"not-a-label": "{marker}"}}]}, "invalid label set"),
                               ({"path": "/api/v2/alarms"}, "/api/v2/alarms was not found")):  # fmt: skip
            settings = described(server.url, steps={"create": {**steps["create"], **changes}})
            async with HttpTarget(settings, SystemClock()) as target:
                with pytest.raises(Refused) as caught:
                    await target.take(CREATE, alert_of("one"))
            assert words in f"{caught.value.title} {caught.value.detail}"
            assert caught.value.requested_at is not None
        assert server.alerts() == []


async def test_where_no_alertmanager_is() -> None:
    """An Alertmanager that has ended is unreachable; another route than the allowed one never leaves."""
    with alertmanager(quiet()) as server:
        url = server.url
        async with HttpTarget(described(url), SystemClock()) as target:
            with pytest.raises(OwnFault, match="not allowed"):
                await target.take(CREATE, alert_of("one", "people"))
            assert server.alerts() == []
    async with HttpTarget(described(url), SystemClock()) as target:
        with pytest.raises(Unreachable) as caught:
            await target.take(CREATE, alert_of("one"))
    assert caught.value.requested_at is None


def quiet() -> dict[str, Any]:
    """A configuration that notifies nobody."""
    return {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


def test_the_example_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped files are a configuration, a scenario that it has channels for, and what amtool calls valid."""
    for name in ("PROBER_KEY", "PROBER_MAILBOX_PASSWORD", "PROBER_SLACK_BOT_TOKEN", "PROBER_SLACK_APP_TOKEN",
                 "PROBER_DISCORD_TOKEN"):  # fmt: skip
        monkeypatch.setenv(name, f"a secret of the test, {name}")
    settings = load_settings(EXAMPLE / "prober.yaml")
    told = drafting(settings)
    assert told.check_text
    assert not told.send_by_test
    (scenario,) = load_scenarios(EXAMPLE / "scenarios", contents_directory()).values()
    assert len(resolve_channels(scenario, settings.channels)) == 3
    amtool = program("amtool", "prometheus-alertmanager")
    checked = subprocess.run(
        [amtool, "check-config", EXAMPLE / "alertmanager.yml"], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

"""The weather: how it is written, and the dice that it throws."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.errors import ConfigurationError
from prober.model import ChannelKind
from prober.sandbox.climate import Climate, Fate, draw_latency, roll
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.weather import (
    ChannelWeather,
    Latency,
    Weather,
    load_weather,
    parse_weather,
    weather_from,
    weather_names,
)

KINDS = {
    "email": ChannelKind.EMAIL,
    "email-2": ChannelKind.EMAIL,
    "slack": ChannelKind.SLACK,
    "discord": ChannelKind.DISCORD,
}
SLACK, EMAIL = ChannelKind.SLACK, ChannelKind.EMAIL


def climate(text: str, clock: ManualClock | None = None) -> Climate:
    return Climate(parse_weather(text), clock or ManualClock(), KINDS, {"C0": "slack", "a@x.example": "email-2"})


@pytest.mark.parametrize("name", weather_names())
def test_every_shipped_weather_is_valid_and_says_what_it_is(name: str) -> None:
    """Each shipped weather loads by its name and has a description."""
    assert load_weather(name).description


def test_a_whole_weather_is_read() -> None:
    """Every field of the form arrives with its unit."""
    weather = parse_weather("""
        seed: 7
        channels:
          slack: {loss: 0.3, latency: {median: 800ms, p99: 5s}, clock: -3s, outage: true, logins: refused}
          email-2: {latency: 3s, copies: 0.1, damage: 0.2, junk: 0.3, reorder: 0.4, delay: {share: 0.5, by: [1s, 5m]}}
          discord: {pushes: {drop: 0.1, late: [1s, 60s]}, rate_limit: {share: 0.2, retry_after: 2s}}
        api: {latency: 2s, status: 503, error_rate: 0.1, reset_rate: 0.1, timeout_rate: 0.1, accepted_but_500: 0.1}
        windows: [{from: 10s, to: 1m, channels: {email: {loss: 1}}, api: {outage: true}}]
    """)
    assert weather.channels["slack"].latency == Latency(median=0.8, p99=5.0)
    assert weather.channels["slack"].clock == -3.0
    assert weather.channels["email-2"].latency == Latency(median=3.0, p99=3.0)
    assert weather.channels["email-2"].delay is not None
    assert weather.channels["email-2"].delay.by == (1.0, 300.0)
    assert (weather.windows[0].start, weather.windows[0].end) == (10.0, 60.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "channels:\n  slak: {loss: 0.3}",
            r"w:2: channels\.slak: .*'slak' \(did you mean 'slack'\?\)",
        ),
        ("channels:\n  slack:\n    los: 0.3", r"w:3: channels\.slack\.los: .*'loss'"),
        ("windows:\n- from: 1s\n  to: 4s\n  api: {statos: 3}", r"w:4: windows\[0\]\.api\.statos: .*'status'"),
        ("windows:\n- {from: 1s, to: 4s, channels: {slakc: {}}}", r"w:2: windows\[0\]\.channels\.slakc: .*'slack'"),
        ("chanels: {}", r"w:1: chanels: .*'channels'"),
        ("channels: {slack: {loss: 3}}", r"w:1: channels\.slack\.loss"),
        ("channels: {slack: {loss: true}}", r"w:1: channels\.slack\.loss"),
        ("channels: {slack: {latency: 3 parsecs}}", r"channels\.slack\.latency: .*200ms, 30s"),
        ("channels: {slack: {latency: {median: 3s, p99: 1s}}}", "median <= p99"),
        ("channels: {slack: {pushes: {late: [9s, 3s]}}}", "shorter duration first"),
        ("windows: [{from: 10s, to: 5s}]", "from < to"),
        ("seed: 1\nseed: 2", "w:2: seed: stands here twice"),
        ("[]", "w:1: expected fields"),
        ("a: b: c", "w:1: is no YAML"),
    ],
)
def test_a_wrong_weather_names_its_place_and_the_mend(text: str, said: str) -> None:
    """Each mistake is a ConfigurationError that names file, line, field, and the nearest right name."""
    with pytest.raises(ConfigurationError, match=said):
        parse_weather(text, file="w")


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    """A weather that is not there is answered with the most similar one, a file that is not there with its path."""
    with pytest.raises(ConfigurationError, match="did you mean 'slack-outage'"):
        load_weather("slack-outag")
    with pytest.raises(ConfigurationError, match="nowhere"):
        load_weather(tmp_path / "nowhere.yaml")


def test_a_name_goes_before_its_kind_field_by_field() -> None:
    """What a channel's name says wins over its kind, and what it leaves out comes from its kind."""
    skies = climate("channels: {email: {loss: 0.5, latency: 1s}, email-2: {loss: 0}}")
    assert skies.over("email-2", EMAIL) == ChannelWeather(loss=0.0, latency=Latency(median=1, p99=1))
    assert skies.over("email", EMAIL).loss == 0.5
    assert skies.over("slack", SLACK) == ChannelWeather()


async def test_windows_lie_over_the_weather_and_count_from_the_start() -> None:
    """A window holds from its first to before its last second, also when the weather is set later."""
    clock = ManualClock()
    skies = climate("channels: {slack: {loss: 0.1}}", clock)
    await clock.advance(5)
    skies.set_weather(
        parse_weather(
            "{channels: {slack: {loss: 0.1, clock: 2s}}, windows: [{from: 10s, to: 60s, channels: {slack: {loss: 1}}}]}"
        )
    )
    seen = []
    for _ in range(3):
        seen.append((skies.over("slack", SLACK).loss, skies.over("slack", SLACK).clock, skies.next_edge()))
        edge = skies.next_edge()
        await clock.advance(edge or 0.0)
    assert seen == [(0.1, 2.0, 5.0), (1.0, 2.0, 50.0), (0.1, 2.0, None)]


def test_the_same_seed_gives_every_message_the_same_fate() -> None:
    """Two worlds of one seed agree on each message; another seed does not."""
    text = "seed: {}\nchannels: {{slack: {{loss: 0.3, copies: 0.3, damage: 0.3}}}}"
    one, same, other = (climate(text.format(seed)) for seed in (1, 1, 2))
    fates = [[skies.fate("slack", SLACK) for _ in range(50)] for skies in (one, same, other)]
    assert fates[0] == fates[1]
    assert fates[0] != fates[2]


def test_more_loss_never_saves_a_message() -> None:
    """With the same seed a message that is lost at 20 % is lost at 40 %, too: dice do not depend on each other."""
    mild, harsh = (climate(f"channels: {{slack: {{loss: {loss}}}}}") for loss in (0.2, 0.4))
    for _ in range(200):
        before, after = mild.fate("slack", SLACK), harsh.fate("slack", SLACK)
        assert after.lost or not before.lost
        assert after.lost or after == before


def test_the_shares_are_about_right() -> None:
    """Over many messages each share is near what was asked for."""
    skies = climate("channels: {email: {loss: 0.3, copies: 0.2, damage: 0.1, junk: 0.4, reorder: 0.25}}")
    fates = [skies.fate("email", EMAIL) for _ in range(4000)]
    come = [fate for fate in fates if not fate.lost]
    assert len(fates) - len(come) == pytest.approx(1200, abs=120)
    for share, count in (
        (0.2, sum(len(fate.latencies) == 2 for fate in come)),
        (0.1, sum(fate.damaged for fate in come)),
        (0.4, sum(fate.junk for fate in come)),
        (0.25, sum(fate.overtaken for fate in come)),
    ):
        assert count / len(come) == pytest.approx(share, abs=0.04)


def test_junk_is_a_matter_of_mail() -> None:
    """Slack has no junk folder."""
    assert not climate("channels: {slack: {junk: 1}}").fate("slack", SLACK).junk


def test_fair_weather_is_quick() -> None:
    """Without weather nothing is lost, and messages take tens to hundreds of milliseconds."""
    skies = Climate(Weather(), ManualClock(), KINDS, {})
    for kind, lowest, highest in ((EMAIL, 0.01, 0.15), (SLACK, 0.015, 0.6), (ChannelKind.DISCORD, 0.015, 0.6)):
        fates = [skies.fate(kind, kind) for _ in range(300)]
        assert all(lowest < fate.latencies[0] < highest for fate in fates)
        assert all(fate == Fate(fate.latencies) for fate in fates)


@given(st.floats(0.001, 100), st.floats(1, 100))
def test_a_latency_has_its_median_and_its_p99(median: float, factor: float) -> None:
    """The lognormal distribution meets both quantiles that describe it."""
    latency = Latency(median=median, p99=median * factor)
    assert draw_latency(latency, 0.5) == pytest.approx(median)
    assert draw_latency(latency, 0.99) == pytest.approx(median * factor)


@given(st.integers(), st.text(), st.integers())
def test_a_die_shows_a_number_within_zero_and_one(seed: int, what: str, number: int) -> None:
    """A die is strictly between 0 and 1, and the same for the same question."""
    assert 0 < roll(seed, what, number) < 1
    assert roll(seed, what, number) == roll(seed, what, number)


def test_pushes_are_dropped_and_late_as_told() -> None:
    """A dropped push is None, a late one its delay within the span, all others are on time."""
    skies = climate("channels: {slack: {pushes: {drop: 0.3, late: [1s, 60s], share: 0.5}}}")
    pushes = [skies.push("slack", "C0") for _ in range(1000)]
    late = [push for push in pushes if push]
    assert sum(push is None for push in pushes) == pytest.approx(300, abs=60)
    assert len(late) == pytest.approx(350, abs=70)
    assert all(1 <= push <= 60 for push in late)
    assert skies.push("imap", "a@x.example") == 0.0


def test_logins_clocks_and_requests() -> None:
    """Refused logins, wrong clocks and rate limits reach the server that they are meant for, and no other."""
    skies = climate("""
        channels:
          email-2: {logins: refused}
          slack: {clock: 45s, rate_limit: {share: 1, retry_after: 2s}}
          discord: {requests: {latency: 1s, reset_rate: 1}}
    """)
    assert [skies.login(server) for server in ("imap", "slack")] == [False, True]
    assert [skies.clock_offset(server) for server in ("slack", "discord")] == [45.0, 0.0]
    slack, discord = skies.request("slack", "conversations.history"), skies.request("discord", "messages")
    assert slack is not None
    assert (slack.status, slack.retry_after) == (429, 2.0)
    assert discord is not None
    assert (discord.status, discord.delay) == (0, 1.0)
    assert skies.request("imap", "fetch") is None


def test_an_outage_of_one_inbox_is_one_of_the_mail_server() -> None:
    """A server serves all channels of its kind; other servers stay up."""
    skies = climate("channels: {email-2: {outage: true}}")
    assert [skies.outage(server) for server in ("email", "slack", "discord", "api")] == [True, False, False, False]


@pytest.mark.parametrize(
    ("field", "status", "taken"),
    [("error_rate", 500, False), ("reset_rate", 0, False), ("timeout_rate", -1, True), ("accepted_but_500", 500, True)],
)
def test_what_becomes_of_a_request(field: str, status: int, taken: bool) -> None:
    """Each failure of the API has its answer, and says whether anything comes of it."""
    fate = climate(f"api: {{{field}: 1, latency: 1s}}").api_fate("create")
    assert (fate.delay, fate.status, fate.taken) == (1.0, status, taken)


def test_a_weather_from_a_mapping() -> None:
    """A mapping that is already read is checked like a file."""
    assert weather_from({"channels": {"slack": {"loss": 1}}}).channels["slack"].loss == 1
    with pytest.raises(ConfigurationError, match="loss"):
        weather_from({"channels": {"slack": {"loss": "much"}}})

"""The weather as it acts: seeded dice per message, and what holds at this moment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

from prober.clock import Clock
from prober.model import ChannelKind
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.weather import ApiWeather, ChannelWeather, Latency, Weather

_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(0.99)
_DIE_FACES = 2**53

FAIR: Mapping[ChannelKind, Latency] = {
    ChannelKind.EMAIL: Latency(median=0.040, p99=0.080),
    ChannelKind.SLACK: Latency(median=0.095, p99=0.300),
    ChannelKind.DISCORD: Latency(median=0.095, p99=0.300),
}
"""How long a message takes to each kind of channel when no weather says otherwise."""

FAIR_API = Latency(median=0.005, p99=0.005)

_SERVER_KINDS = {
    "imap": ChannelKind.EMAIL,
    "smtp": ChannelKind.EMAIL,
    "email": ChannelKind.EMAIL,
    "s3": ChannelKind.EMAIL,
    "slack": ChannelKind.SLACK,
    "discord": ChannelKind.DISCORD,
}


HALF_OPEN = 3600.0
"""Seconds for which a request on a half-open connection is not answered: longer than anybody waits."""

GARBAGE = -2
"""The status that stands for an answer which is no JSON."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one message: whether it is lost, after how many seconds it and each copy of it come."""

    latencies: tuple[float, ...]
    damaged: bool = False
    junk: bool = False
    overtaken: bool = False

    @property
    def lost(self) -> bool:
        return not self.latencies


@dataclass(frozen=True, slots=True)
class ApiFate:
    """What becomes of one request to the API.

    ``status`` None is the true answer, 0 a reset, -1 silence, -2 garbage; ``taken`` says whether the request takes
    effect.
    """

    delay: float
    status: int | None = None
    taken: bool = True


def roll(seed: int, *about: object) -> float:
    """A number in (0, 1) that depends on nothing but the seed and what it is about."""
    name = "|".join([str(seed), *map(str, about)]).encode()
    number = int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 11
    return (number + 0.5) / _DIE_FACES


def draw_latency(latency: Latency, die: float) -> float:
    """The latency whose quantile is ``die``."""
    if latency.median == latency.p99:
        return latency.median
    sigma = math.log(latency.p99 / latency.median) / _Z99
    return latency.median * math.exp(sigma * _NORMAL.inv_cdf(die))


def _between(span: tuple[float, float], die: float) -> float:
    return span[0] + (span[1] - span[0]) * die


class Climate(Faults):
    """The weather over one world: asked by its workers, its API and its protocol servers.

    ``channels`` are the channels' kinds by name, ``addresses`` their names by address.
    """

    def __init__(
        self, weather: Weather, clock: Clock, channels: Mapping[str, ChannelKind], addresses: Mapping[str, str]
    ) -> None:
        self._weather = weather
        self._clock = clock
        self._kinds = dict(channels)
        self._addresses = dict(addresses)
        self._start = clock.now()
        self._numbers: Counter[str] = Counter()
        self._known: dict[tuple[tuple[int, ...], str, ChannelKind], ChannelWeather] = {}

    @property
    def weather(self) -> Weather:
        return self._weather

    def set_weather(self, weather: Weather) -> None:
        """Change the weather at once; its windows count from the world's start as before."""
        self._weather = weather
        self._known.clear()

    @property
    def age(self) -> float:
        """Seconds since the world's start."""
        return self._clock.now().since(self._start)

    def next_edge(self) -> float | None:
        """Seconds until a window opens or closes; None when none will."""
        age = self.age
        edges = [edge for window in self._weather.windows for edge in (window.start, window.end) if edge > age]
        return min(edges) - age if edges else None

    def fate(self, channel: str, kind: ChannelKind) -> Fate:
        """What becomes of the next message to a channel: the same for the same seed, channel and number."""
        number = self._next(f"message|{channel}")
        weather = self.over(channel, kind)
        seed, about = self._weather.seed, (channel, number)

        def chance(share: float | None, what: str) -> bool:
            return bool(share) and roll(seed, what, *about) < (share or 0.0)

        if chance(weather.loss, "loss"):
            return Fate(())
        latency = weather.latency or FAIR[kind]
        latencies = [draw_latency(latency, roll(seed, "latency", *about))]
        if weather.delay and chance(weather.delay.share, "delay"):
            latencies[0] += _between(weather.delay.by, roll(seed, "delayed by", *about))
        if chance(weather.copies, "copies"):
            copy = draw_latency(latency, roll(seed, "copy", *about))
            late = weather.copies_later
            latencies.append(copy if late is None else latencies[0] + _between(late, roll(seed, "copy late", *about)))
        return Fate(
            tuple(latencies),
            damaged=chance(weather.damage, "damage"),
            junk=kind is ChannelKind.EMAIL and chance(weather.junk, "junk"),
            overtaken=chance(weather.reorder, "reorder"),
        )

    def api_fate(self, action: str) -> ApiFate:
        """What becomes of the next request to the API; ``action`` is ``create`` for what creates, else a word."""
        weather, seed = self.api(), self._weather.seed
        number = self._next(f"api|{action}")
        delay = draw_latency(weather.latency or FAIR_API, roll(seed, "api latency", action, number))
        if weather.status is not None:
            return ApiFate(delay, weather.status, taken=False)
        die = roll(seed, "api", action, number)
        for share, status, taken in (
            (weather.error_rate, 500, False),
            (weather.reset_rate, 0, False),
            (weather.timeout_rate, -1, True),
            (weather.accepted_but_500, 500, True),
            (weather.garbage_rate, GARBAGE, True),
        ):
            if die < (share or 0.0):
                return ApiFate(delay, status, taken)
            die -= share or 0.0
        return ApiFate(delay)

    def over(self, channel: str, kind: ChannelKind) -> ChannelWeather:
        """The weather that holds now over a channel ("" for the kind as such)."""
        active = self._active()
        key = (active, channel, kind)
        if key not in self._known:
            weather = ChannelWeather()
            for layer in (self._weather.channels, *(self._weather.windows[index].channels for index in active)):
                for name in (kind.value, channel) if channel != kind.value else (channel,):
                    if name in layer:
                        weather = layer[name].over(weather)
            self._known[key] = weather
        return self._known[key]

    def api(self) -> ApiWeather:
        """The weather that holds now over the API."""
        weather = self._weather.api
        for index in self._active():
            weather = self._weather.windows[index].api.over(weather)
        return weather

    def outage(self, server: str) -> bool:
        """Whether the server (``email``, ``s3``, ``slack``, ``discord``, ``api``) is down now.

        A server serves all channels of its kind, so the outage of one of them is the outage of all.
        """
        if server == "api":
            return bool(self.api().outage)
        return any(weather.outage for weather in self._of_server(server))

    def push(self, server: str, address: str) -> float | None:
        kind = _SERVER_KINDS[server]
        name = self._addresses.get(address, "")
        weather = self.over(name, kind)
        if weather.half_open:
            return None
        pushes = weather.pushes
        if pushes is None:
            return 0.0
        seed, number = self._weather.seed, self._next(f"push|{address}")
        if roll(seed, "push dropped", name, number) < pushes.drop:
            return None
        if pushes.late is None or roll(seed, "push late", name, number) >= pushes.share:
            return 0.0
        return _between(pushes.late, roll(seed, "push late by", name, number))

    def feedback(self, address: str) -> str:
        name = self._addresses.get(address, "")
        said = self.over(name, ChannelKind.EMAIL).feedback
        if said is None:
            return ""
        die = roll(self._weather.seed, "feedback", name, self._next(f"feedback|{address}"))
        for share, word in ((said.bounce, "bounce"), (said.complaint, "complaint"), (said.reject, "reject")):
            if die < share:
                return word
            die -= share
        return ""

    def request(self, server: str, action: str) -> RequestFault | None:
        number, seed = self._next(f"request|{server}"), self._weather.seed
        for weather in self._of_server(server):
            if weather.half_open:
                return RequestFault(HALF_OPEN)
            limit, requests = weather.rate_limit, weather.requests
            if limit and roll(seed, "rate limit", server, number) < limit.share:
                return RequestFault(status=429, retry_after=limit.retry_after)
            if requests is None:
                continue
            delay = draw_latency(requests.latency, roll(seed, "wait", server, number)) if requests.latency else 0.0
            die = roll(seed, "request", server, number)
            if die < requests.error_rate:
                return RequestFault(delay, requests.status)
            if die < requests.error_rate + requests.reset_rate:
                return RequestFault(delay, 0)
            return RequestFault(delay, garbage=die < requests.error_rate + requests.reset_rate + requests.garbage_rate)
        return None

    def login(self, server: str) -> bool:
        return all(weather.logins != "refused" for weather in self._of_server(server))

    def clock_offset(self, server: str) -> float:
        return next((weather.clock for weather in self._of_server(server) if weather.clock is not None), 0.0)

    def _of_server(self, server: str) -> list[ChannelWeather]:
        """The weathers of all channels that a server serves, that of the kind as such first."""
        kind = _SERVER_KINDS[server]
        names = ["", *(name for name, its in self._kinds.items() if its is kind)]
        weathers = [self.over(name, kind) for name in names]
        return [weather for weather in weathers if weather.model_fields_set]

    def _active(self) -> tuple[int, ...]:
        windows = self._weather.windows
        if not windows:
            return ()
        age = self.age
        return tuple(index for index, window in enumerate(windows) if window.start <= age < window.end)

    def _next(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]

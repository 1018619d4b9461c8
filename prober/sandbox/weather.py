"""The sandbox's weather as it is written: what goes wrong, how often, and when.

A weather is a YAML mapping. Every part of it may be left out: fair weather is the empty mapping. Keys of
``channels`` are channels' names or kinds; a kind stands for all channels of that kind, and what a name says goes
before what its kind says, field by field. Windows count from the world's start, also in a weather set later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from prober.durations import parse_duration
from prober.errors import ConfigurationError
from prober.model import ChannelKind
from prober.nearest import did_you_mean
from prober.resources import fixtures_directory
from prober.validation import Form, Seconds, validate
from prober.yaml_source import Loc, Located, parse_located, read_located

STANDARD_CHANNELS = ("email", "email-2", "slack", "discord", "email-s3")
"""The names of the sandbox's own channels; the last one is there only with AWS."""


def _signed(value: str | int | float) -> float:
    if isinstance(value, str) and value.strip()[:1] in {"-", "+"}:
        seconds = parse_duration(value.strip()[1:])
        return -seconds if value.strip()[0] == "-" else seconds
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return -parse_duration(-value)
    return parse_duration(value)


def _span(value: Any) -> Any:
    """One duration stands for the span from it to itself."""
    return value if isinstance(value, (list, tuple)) else (value, value)


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if span[1] < span[0]:
        raise ValueError("a span needs its shorter duration first")
    return span


def _latency(value: Any) -> Any:
    """One duration stands for a latency that is always the same."""
    return value if isinstance(value, (Mapping, BaseModel)) else {"median": value, "p99": value}


Offset = Annotated[float, BeforeValidator(_signed)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Span = Annotated[tuple[Seconds, Seconds], BeforeValidator(_span), AfterValidator(_rising)]


class Latency(Form):
    """A lognormal distribution in seconds by its median and 99th percentile; always the same when both are equal."""

    median: Seconds
    p99: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p99 < self.median or (self.median == 0 and self.p99 > 0):
            raise ValueError("a latency needs 0 < median <= p99, or both 0")
        return self


LatencyField = Annotated[Latency, BeforeValidator(_latency)]


class Delay(Form):
    """A ``share`` of the messages comes later by a time drawn evenly from ``by``."""

    share: Share = 1.0
    by: Span


class Pushes(Form):
    """Pushes that are dropped, or of which a ``share`` comes late by a time drawn evenly from ``late``."""

    drop: Share = 0.0
    late: Span | None = None
    share: Share = 1.0


class Feedback(Form):
    """What becomes of shares of the mails in SES's hands; told in its events, and only with AWS.

    A ``bounce`` is a hard one: the address is on SES's suppression list from then on, and gets no mail any more.
    """

    bounce: Share = 0.0
    complaint: Share = 0.0
    reject: Share = 0.0


class RateLimit(Form):
    """A ``share`` of the observer's requests is answered 429."""

    share: Share
    retry_after: Seconds = 1.0


class Requests(Form):
    """What the observer's requests to the provider meet: slowness, errors (``status``), resets, garbage."""

    latency: LatencyField | None = None
    error_rate: Share = 0.0
    status: Annotated[int, Field(ge=400, le=599)] = 500
    reset_rate: Share = 0.0
    garbage_rate: Share = 0.0


class ChannelWeather(Form):
    """What messages meet on the way to one channel, and what its observer meets.

    ``copies``, ``damage`` and ``junk`` are shares of the messages; ``reorder`` the share that is overtaken by the
    channel's next message; ``clock`` the seconds by which the provider's clock is ahead; ``outage`` closes the place.
    Copies come as soon as the first, or ``copies_later`` by a time drawn evenly from it. ``half_open`` lets
    connections stand on which nothing comes any more: no answer and no push.
    """

    loss: Share | None = None
    latency: LatencyField | None = None
    copies: Share | None = None
    copies_later: Span | None = None
    damage: Share | None = None
    junk: Share | None = None
    reorder: Share | None = None
    delay: Delay | None = None
    feedback: Feedback | None = None
    pushes: Pushes | None = None
    logins: Literal["accepted", "refused"] | None = None
    rate_limit: RateLimit | None = None
    requests: Requests | None = None
    clock: Offset | None = None
    half_open: bool | None = None
    outage: bool | None = None

    def over(self, other: ChannelWeather) -> ChannelWeather:
        """What this says, and where it says nothing what the other says."""
        return other.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class ApiWeather(Form):
    """What requests to the publishing API meet.

    ``status`` is the answer to every request, of which nothing comes. A share ``error_rate`` is answered 500 and a
    share ``reset_rate`` is reset, and nothing comes of them either. A share ``timeout_rate`` takes effect but is
    never answered; a share ``accepted_but_500`` takes effect but is answered 500, a share ``garbage_rate`` takes effect
    but is answered with what is no JSON. ``rate_limit`` is the number of
    requests per minute; ``clock`` the seconds by which the server's clock is ahead; ``outage`` closes the port.
    """

    latency: LatencyField | None = None
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    error_rate: Share | None = None
    reset_rate: Share | None = None
    timeout_rate: Share | None = None
    accepted_but_500: Share | None = None
    garbage_rate: Share | None = None
    rate_limit: Annotated[int, Field(ge=1)] | None = None
    clock: Offset | None = None
    outage: bool | None = None

    def over(self, other: ApiWeather) -> ApiWeather:
        """What this says, and where it says nothing what the other says."""
        return other.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class Window(Form):
    """Weather that holds from ``from`` until before ``to``, in seconds since the world's start."""

    start: Seconds = Field(alias="from")
    end: Seconds = Field(alias="to")
    channels: Mapping[str, ChannelWeather] = Field(default_factory=dict)
    api: ApiWeather = ApiWeather()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a window needs from < to")
        return self


class Weather(Form):
    """All that goes wrong; the same seed gives the same weather to the same message."""

    description: str = ""
    seed: Annotated[int, Field(strict=True)] = 0
    channels: Mapping[str, ChannelWeather] = Field(default_factory=dict)
    api: ApiWeather = ApiWeather()
    windows: tuple[Window, ...] = ()


def weathers_directory() -> Path:
    """The shipped weathers, one YAML file each."""
    return fixtures_directory() / "weather"


def weather_names(folder: Path | None = None) -> tuple[str, ...]:
    """The names of the weathers in a folder, by default of the shipped ones."""
    return tuple(sorted(path.stem for path in (folder or weathers_directory()).glob("*.yaml")))


def load_weather(
    name_or_path: str | Path, *, folder: Path | None = None, channels: Sequence[str] = STANDARD_CHANNELS
) -> Weather:
    """Read a weather by the name of a shipped one or by a path (one that has a ``/`` or ends in ``.yaml``).

    Raises ConfigurationError, which names file, line and field, for whatever is wrong with it.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return _validated(read_located(Path(name_or_path)), channels)
    names = weather_names(folder)
    if text not in names:
        raise ConfigurationError(f"there is no weather {text!r}", did_you_mean(text, names), field="weather")
    return _validated(read_located((folder or weathers_directory()) / f"{text}.yaml"), channels)


def parse_weather(source: str, *, file: str = "weather", channels: Sequence[str] = STANDARD_CHANNELS) -> Weather:
    """A weather from YAML text; raises ConfigurationError as :func:`load_weather` does."""
    return _validated(parse_located(source, file), channels)


def weather_from(
    value: Mapping[str, Any], *, source: str = "weather", channels: Sequence[str] = STANDARD_CHANNELS
) -> Weather:
    """A weather from a mapping that is already read; raises ConfigurationError."""
    return _validated(Located(value, source), channels)


def _validated(located: Located, channels: Sequence[str]) -> Weather:
    weather = validate(Weather, located)
    known = (*channels, *(kind.value for kind in ChannelKind if kind.value not in channels))
    for loc, name in _channel_keys(weather):
        if name not in known:
            raise located.error(f"there is no channel {name!r}", did_you_mean(name, known), loc)
    return weather


def _channel_keys(weather: Weather) -> Iterator[tuple[Loc, str]]:
    for name in weather.channels:
        yield ("channels", name), name
    for index, window in enumerate(weather.windows):
        for name in window.channels:
            yield ("windows", index, "channels", name), name

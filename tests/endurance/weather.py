"""Random weather out of a seed: what the soak lets at the sandbox."""

from __future__ import annotations

from random import Random
from typing import Any

SERVERS = ("email", "slack", "discord", "api")

LATENCIES: tuple[dict[str, str] | str | None, ...] = (
    None,
    None,
    {"median": "300ms", "p99": "3s"},
    {"median": "1200ms", "p99": "6s"},
    "1900ms",
    "2100ms",
    {"median": "2500ms", "p99": "9s"},
    "6500ms",
)
"""From fair through either side of the deadline (2 s) to beyond the horizon (6 s)."""


def clocks(rng: Random) -> dict[str, str]:
    """By how much the providers' clocks are wrong, once for the whole soak: a step in between is another story."""
    return {name: f"{rng.choice((-20, -3, 0, 3, 45))}s" for name in ("slack", "discord")}


def random_weather(rng: Random, ahead: dict[str, str]) -> dict[str, Any]:
    """One weather. ``ahead`` are the providers' clocks."""
    channels: dict[str, dict[str, Any]] = {kind: _messages(rng) for kind in ("email", "slack", "discord")}
    channels["email"]["junk"] = rng.choice((0.0, 0.0, 0.2))
    for kind in ("slack", "discord"):
        channels[kind]["clock"] = ahead[kind]
        channels[kind]["requests"] = _requests(rng)
        if rng.random() < 0.2:
            channels[kind]["rate_limit"] = {"share": 0.1, "retry_after": "1s"}
    if rng.random() < 0.1:
        channels[rng.choice(("email", "slack", "discord"))]["logins"] = "refused"
    return {"seed": rng.randrange(1_000_000), "channels": channels, "api": _api(rng)}


def fair(ahead: dict[str, str]) -> dict[str, Any]:
    """Nothing goes wrong, but the providers' clocks stay as they are."""
    return {"channels": {kind: {"clock": clock} for kind, clock in ahead.items()}}


def _messages(rng: Random) -> dict[str, Any]:
    weather: dict[str, Any] = {
        "loss": rng.choice((0.0, 0.0, 0.1, 0.3)),
        "copies": rng.choice((0.0, 0.1, 0.4)),
        "damage": rng.choice((0.0, 0.0, 0.2)),
        "reorder": rng.choice((0.0, 0.0, 0.2)),
    }
    if (latency := rng.choice(LATENCIES)) is not None:
        weather["latency"] = latency
    if rng.random() < 0.3:
        weather["delay"] = {"share": 0.2, "by": ["500ms", "6s"]}
    pushes = rng.choice((None, {"drop": 1.0}, {"drop": 0.3}, {"late": ["200ms", "3s"], "share": 0.5, "drop": 0.1}))
    if pushes is not None:
        weather["pushes"] = pushes
    return weather


def _requests(rng: Random) -> dict[str, Any]:
    return {
        "latency": rng.choice(("1ms", "20ms", {"median": "50ms", "p99": "1s"})),
        "error_rate": rng.choice((0.0, 0.0, 0.2)),
        "reset_rate": rng.choice((0.0, 0.0, 0.1)),
        "garbage_rate": rng.choice((0.0, 0.0, 0.05)),
    }


def _api(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.1:
        return {"status": rng.choice((400, 422, 503))}
    return {
        "latency": rng.choice(("2ms", "5ms", {"median": "50ms", "p99": "1s"}, "1s", {"median": "1s", "p99": "5s"})),
        "error_rate": rng.choice((0.0, 0.0, 0.1)),
        "reset_rate": rng.choice((0.0, 0.0, 0.1)),
        "timeout_rate": rng.choice((0.0, 0.0, 0.1)),
        "accepted_but_500": rng.choice((0.0, 0.0, 0.2)),
    }

"""OAuth 2 access tokens (RFC 6749) as values: for how long one serves, and what a token endpoint answered. Pure."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prober.clock import Instant

RENEW_BEFORE = 60.0
"""Seconds before its end at which a token is renewed (at half its life if that is shorter)."""

UNTOLD_LIFE = 300.0
"""Seconds for which a token is used whose end nobody tells."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, the instant before it was asked for, and its life in seconds."""

    token: str = field(repr=False)
    asked: Instant
    life: float

    def is_fresh(self, now: Instant) -> bool:
        """Whether it need not be renewed yet."""
        return now.since(self.asked) < self.life - min(RENEW_BEFORE, self.life / 2)

    def is_alive(self, now: Instant) -> bool:
        return now.since(self.asked) < self.life


def life_of(document: Mapping[str, Any], token: str, asked: Instant) -> float:
    """Seconds for which a token serves, by ``expires_in``, else by its own word."""
    life = _number(document.get("expires_in"))
    if life is not None and life > 0:
        return life
    end = expiry(token)
    return UNTOLD_LIFE if end is None else end - asked.wall


def expiry(token: str) -> float | None:
    """Wall seconds at which a JWT ends, by its own unverified word; None where it does not say or is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return _number(claims.get("exp")) if isinstance(claims, dict) else None


def _number(value: object) -> float | None:
    """A finite number, also one written as a text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

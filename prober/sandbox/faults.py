"""Seam between the weather and the protocol servers: what goes wrong, asked at the moment at which it matters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestFault:
    """What happens to one request: ``delay`` seconds first, then ``status`` instead of the answer (0: reset,
    None: the true answer), ``garbage`` instead of the body."""

    delay: float = 0.0
    status: int | None = None
    garbage: bool = False
    retry_after: float | None = None


class Faults:
    """Fair weather. The world's weather overrides what it wants to spoil; ``server`` is imap, smtp, s3, slack,
    discord."""

    def push(self, server: str, address: str) -> float | None:
        """Seconds by which a push comes late; None when it is dropped."""
        return 0.0

    def request(self, server: str, action: str) -> RequestFault | None:
        """What happens to this request; None for nothing."""
        return None

    def login(self, server: str) -> bool:
        """Whether a login is let in."""
        return True

    def clock_offset(self, server: str) -> float:
        """Seconds by which the provider's clock is ahead of ours."""
        return 0.0

    def feedback(self, address: str) -> str:
        """What SES does with the next mail to an address: ``bounce``, ``complaint``, ``reject``, or '' for nothing."""
        return ""

"""Discord's rate limits for the sandbox: how many requests a route lets in, and the headers that say so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Limit:
    """How many requests a route lets in per span of seconds."""

    requests: int
    seconds: float


@dataclass(slots=True)
class Bucket:
    """One route's requests of late."""

    limit: Limit
    let_in: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> float:
        """Seconds until the next request is let in; 0 when this one is."""
        while self.let_in and self.let_in[0] <= now - self.limit.seconds:
            self.let_in.popleft()
        if len(self.let_in) >= self.limit.requests:
            return self.let_in[0] + self.limit.seconds - now
        self.let_in.append(now)
        return 0.0

    def headers(self, name: str, now: float) -> dict[str, str]:
        reset_after = self.let_in[0] + self.limit.seconds - now if self.let_in else 0.0
        return {
            "X-RateLimit-Bucket": name,
            "X-RateLimit-Limit": str(self.limit.requests),
            "X-RateLimit-Remaining": str(max(0, self.limit.requests - len(self.let_in))),
            "X-RateLimit-Reset-After": f"{max(0.0, reset_after):.3f}",
        }

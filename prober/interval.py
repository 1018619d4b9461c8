"""Bounds on a quantity in seconds, with what they rest on."""

from __future__ import annotations

from dataclasses import dataclass

CLOCK_DRIFT = 500e-6
"""Seconds per second by which a provider's clock and ours may drift apart: what Linux lets NTP correct at the most
(MAXFREQ in linux/timex.h)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval [lower, upper] in seconds and its basis, e.g. ``push``, ``poll``, ``history``."""

    lower: float
    upper: float
    basis: str = ""

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise ValueError(f"an interval needs lower <= upper, got [{self.lower}, {self.upper}]")

    @property
    def width(self) -> float:
        return self.upper - self.lower

    @property
    def middle(self) -> float:
        """The midpoint: unbiased when the truth is uniform in the interval (measurement by polling)."""
        return (self.lower + self.upper) / 2

    def __contains__(self, value: float) -> bool:
        return self.lower <= value <= self.upper

    def intersects(self, other: Interval) -> bool:
        return self.lower <= other.upper and other.lower <= self.upper

    def intersection(self, other: Interval) -> Interval | None:
        """What both allow, None when they contradict each other: a clock or a server is then wrong."""
        lower, upper = max(self.lower, other.lower), min(self.upper, other.upper)
        if lower > upper:
            return None
        names = [name for name in dict.fromkeys([*self.basis.split("+"), *other.basis.split("+")]) if name]
        return Interval(lower, upper, "+".join(names))

    def widened(self, seconds: float) -> Interval:
        """The same with ``seconds`` more doubt on either side."""
        return Interval(self.lower - seconds, self.upper + seconds, self.basis)

    def shifted(self, seconds: float) -> Interval:
        return Interval(self.lower + seconds, self.upper + seconds, self.basis)


def offset_from_exchange(sent: float, answered: float, stamp: float, resolution: float, source: str) -> Interval:
    """Bounds on a provider's clock minus ours from one exchange that it stamped (Cristian 1989).

    The stamp, truncated to ``resolution``, was taken between ``sent`` and ``answered`` of our wall clock, so the
    offset lies in [stamp - answered, stamp + resolution - sent].
    """
    return Interval(stamp - answered, stamp + resolution - sent, source)


def latency_from_stamp(stamp: float, resolution: float, origin: float, offset: Interval) -> Interval:
    """Bounds on the latency since ``origin`` (our wall clock) by a provider's stamp and its clock's offset."""
    return Interval(stamp - offset.upper - origin, stamp + resolution - offset.lower - origin, offset.basis)

"""What ``run`` and ``gate`` show while they wait: permanent lines, and on a terminal what is still waited for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from prober.clock import Instant
from prober.durations import format_duration
from prober.report.lines import Line, Span, Tone, cells, fold, pad, painted, printable, write
from prober.report.text import Widths, answered_lines, closing_lines, delivery_lines, launched_lines
from prober.report.values import DeliveryResult, ProbeResult, RunResult

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

REFRESHES_PER_SECOND = 8
MAX_WAITING = 8
"""Rows of what is waited for that are shown at the most."""
DEFAULT_WIDTH = 80
_STILL_TERMINALS = {"dumb", "unknown"}
MIN_BAR, MAX_BAR = 8, 40


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is open: ``due`` is the instant from which its time counts (None: not requested yet).

    ``blind`` says that its observer cannot see now.
    """

    scenario: str
    probe: str
    channel: str
    due: Instant | None
    within: float
    give_up: float
    observer: str = ""
    blind: bool = False


class View(Protocol):
    """Where a run is shown while it goes on. All methods return at once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """A sentence to the user."""

    def launched(self, probe: ProbeResult) -> None:
        """A probe was planned: its publication is about to leave."""

    def answered(self, probe: ProbeResult) -> None:
        """The target answered, or will not."""

    def settled(self, probe: ProbeResult, delivery: DeliveryResult) -> None:
        """A question about a delivery was settled."""

    def waiting(self, rows: Sequence[Waiting]) -> None:
        """All deliveries that are open now; elapsed time is worked out on each redraw."""

    def show(self, lines: Callable[[int], Iterable[Line]]) -> None:
        """Permanent lines, laid out for the view's width."""

    def progress(self, standing: Sequence[Line], line: Line | None) -> None:
        """How it stands: on a terminal ``standing`` below what is permanent, until the next; else ``line``."""

    def closing(self, result: RunResult) -> None:
        """The summary and the result: the last that is shown."""

    def when_lost(self, act: Callable[[OSError], None]) -> None:
        """Call ``act`` once, from any thread, when the stream takes no more; nothing is shown from then on."""


class PlainView:
    """Plain lines to a stream that is no terminal; nothing is shown of the waiting."""

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        self._stream = stream
        self._fixed_width = width
        self._widths = Widths()
        self._lost: OSError | None = None
        self._when_lost: Callable[[OSError], None] = lambda _error: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(())

    @property
    def _width(self) -> int:
        return self._fixed_width or shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns

    def when_lost(self, act: Callable[[OSError], None]) -> None:
        self._when_lost = act

    def _show(self, lines: Iterable[Line]) -> None:
        """Show, or lose the stream: whoever tells the view something goes on either way."""
        if self._lost is not None:
            return
        try:
            self._put(lines)
        except OSError as error:
            self._lost = error
            self._when_lost(error)

    def _put(self, lines: Iterable[Line]) -> None:
        write(lines, self._stream)
        self._stream.flush()

    def note(self, text: str) -> None:
        self._show([(Span(text),)])

    def launched(self, probe: ProbeResult) -> None:
        self._widths = self._widths.including(probe)
        self._show(launched_lines(probe, self._widths, self._width))

    def answered(self, probe: ProbeResult) -> None:
        self._show(answered_lines(probe, self._widths, self._width))

    def settled(self, probe: ProbeResult, delivery: DeliveryResult) -> None:
        self._show(delivery_lines(probe, delivery, self._widths, self._width))

    def waiting(self, rows: Sequence[Waiting]) -> None:
        """Nothing: a log is no place for a moving bar."""

    def show(self, lines: Callable[[int], Iterable[Line]]) -> None:
        self._show(lines(self._width))

    def progress(self, standing: Sequence[Line], line: Line | None) -> None:
        if line is not None:
            self._show([line])

    def closing(self, result: RunResult) -> None:
        self._show(closing_lines(result, self._width))


class LiveView(PlainView):
    """Permanent lines on a terminal, and below them a table of what is waited for, redrawn a few times a second.

    ``now`` is asked on each redraw, from a thread of rich's.
    """

    def __init__(self, stream: TextIO, now: Callable[[], Instant], width: int | None = None) -> None:
        super().__init__(stream, width)
        self._now = now
        self._rows: tuple[Waiting, ...] = ()
        self._standing: tuple[Line, ...] = ()
        self._exit = ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=self._stream, width=self._fixed_width, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._live = Live(
            console=console,
            transient=True,
            refresh_per_second=REFRESHES_PER_SECOND,
            vertical_overflow="crop",
            get_renderable=lambda: self._waiting_table(console),
        )
        self._exit.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows = self._standing = ()
        self._exit.close()
        self._live = None

    @property
    def _width(self) -> int:
        return self._live.console.width if self._live is not None else super()._width

    def _put(self, lines: Iterable[Line]) -> None:
        if self._live is None:
            super()._put(lines)
            return
        for line in lines:
            self._live.console.print(painted(line, self._stream.encoding), soft_wrap=True)

    def note(self, text: str) -> None:
        self._show((Span(line),) for line in fold(printable(text), self._width))

    def waiting(self, rows: Sequence[Waiting]) -> None:
        self._rows = tuple(rows)

    def progress(self, standing: Sequence[Line], line: Line | None) -> None:
        self._standing = tuple(standing)

    def closing(self, result: RunResult) -> None:
        self._rows = ()
        super().closing(result)

    def _waiting_table(self, console: Console) -> RenderableType:
        from rich.console import Group

        limit = max(1, min(MAX_WAITING, console.height - 2))
        texts = [
            painted(line, self._stream.encoding)
            for line in (
                *self._standing[: console.height - 1],
                *waiting_lines(self._rows, self._now(), console.width, limit=limit),
            )
        ]
        for text in texts:
            text.truncate(console.width)
        return Group(*texts)


def open_view(output: str, now: Callable[[], Instant]) -> View:
    """The view that fits: on standard output for ``text``, else beside the result on standard error."""
    stream = sys.stdout if output == "text" else sys.stderr
    return LiveView(stream, now) if is_screen(stream) else PlainView(stream)


def is_screen(stream: TextIO) -> bool:
    """Whether the stream is a terminal that understands control sequences."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in _STILL_TERMINALS


def waiting_lines(rows: Sequence[Waiting], now: Instant, width: int, *, limit: int = MAX_WAITING) -> list[Line]:
    """What is waited for, the most urgent first: elapsed time against the deadline, past it against the horizon."""
    shown = sorted(rows, key=lambda row: -_elapsed(row, now) / max(row.within, 1e-3))[:limit]
    scenario_cells = max((cells(printable(row.scenario)) for row in shown), default=0)
    names = [f"{pad(printable(row.scenario), scenario_cells)}  {printable(row.probe)}" for row in shown]
    channels = [printable(row.channel) for row in shown]
    said = [_said(row, now) for row in shown]
    name_cells, channel_cells = max(map(cells, names), default=0), max(map(cells, channels), default=0)
    said_cells = max((cells(span.text) for span in said), default=0)
    bar_cells = width - (2 + name_cells + 2 + channel_cells + 2 + 2 + said_cells)
    if bar_cells < MIN_BAR:
        names, bar_cells = ["" for _ in shown], bar_cells + name_cells + 2
    bar_cells = max(0, min(MAX_BAR, bar_cells))
    lines: list[Line] = []
    for row, name, channel, text in zip(shown, names, channels, said, strict=True):
        front = f"  {pad(name, name_cells)}  " if name else "  "
        bar = _bar(row, now, bar_cells)
        lines.append((Span(front, Tone.FAINT), Span(pad(channel, channel_cells) + "  "), *bar, Span("  "), text))
    if len(rows) > limit:
        lines.append((Span(f"  and {len(rows) - limit} more deliveries", Tone.FAINT),))
    return lines


def _elapsed(row: Waiting, now: Instant) -> float:
    return 0.0 if row.due is None else now.since(row.due)


def _said(row: Waiting, now: Instant) -> Span:
    elapsed = _elapsed(row, now)
    if row.due is None:
        return Span("not requested yet", Tone.FAINT)
    if row.blind:
        return Span(f"{max(0.0, elapsed):.1f} s, blind", Tone.VOID)
    if elapsed < 0:
        return Span(f"due in {-elapsed:.1f} s", Tone.FAINT)
    if elapsed <= row.within:
        return Span(f"{elapsed:.1f} s of {format_duration(row.within)}")
    if elapsed <= row.give_up:
        return Span(f"{elapsed:.1f} s of {format_duration(row.give_up)}, overdue", Tone.BAD)
    return Span(f"{elapsed:.1f} s, last read", Tone.BAD)


def _bar(row: Waiting, now: Instant, width: int) -> tuple[Span, Span]:
    elapsed = max(0.0, _elapsed(row, now))
    late = elapsed > row.within
    whole = row.give_up if late else row.within
    done = round(width * min(1.0, elapsed / whole)) if whole > 0 else width
    tone = Tone.BAD if late else Tone.UNSURE if done > width * 0.8 else Tone.GOOD
    return Span("━" * done, tone), Span("─" * (width - done), Tone.FAINT)

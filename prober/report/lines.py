"""Lines of toned text: laid out once, then written plain, or in colour. Nothing in a text is ever interpreted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from rich.text import Text


class Tone(StrEnum):
    """What a piece of text means; only :data:`STYLES` knows colours."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"
    VOID = "void"


STYLES = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.FAINT: "dim",
    Tone.GOOD: "green",
    Tone.BAD: "bold red",
    Tone.UNSURE: "yellow",
    Tone.VOID: "magenta",
}

_ASCII = str.maketrans("✓✗○·→━─µ▁▂▃▄▅▆▇█░", "+xo->=-u_.-=+*#@.") | str.maketrans({"…": "...", "±": "+/-", "≤": "<="})


class Span(NamedTuple):
    """A piece of a line in one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]


def printable(text: str) -> str:
    """``text`` on one line without control, formatting or bidirectional characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "" for char in text)


def shorten(text: str, limit: int) -> str:
    """Printable text, white space collapsed, cut to ``limit`` characters with an ellipsis."""
    words = " ".join(printable(text[: 4 * limit]).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def plain(line: Line) -> str:
    """The line without tones, without trailing blanks."""
    return "".join(printable(span.text) for span in line).rstrip()


def cells(text: str) -> int:
    """Columns that a terminal uses for ``text``."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def line_cells(line: Line) -> int:
    """Columns that a terminal uses for the line."""
    return sum(cells(span.text) for span in line)


def pad(text: str, width: int) -> str:
    """``text`` filled with blanks on the right."""
    return text + " " * (width - cells(text))


def hang(line: Line, rest: str, width: int, *, indent: int, tone: Tone = Tone.FAINT) -> list[Line]:
    """``rest`` set behind ``line`` where it fits, else below it, ``indent`` blanks from the left."""
    rest = " ".join(printable(rest).split())
    if not rest:
        return [line]
    if line_cells(line) + 2 + cells(rest) <= width:
        return [(*line, Span("  "), Span(rest, tone))]
    if line_cells(line) + 2 <= indent:
        head, *below = fold(rest, max(width - indent, 20))
        gap = " " * (indent - line_cells(line))
        return [(*line, Span(gap), Span(head, tone)), *((Span(" " * indent), Span(text, tone)) for text in below)]
    return [line, *((Span(" " * indent), Span(text, tone)) for text in fold(rest, max(width - indent, 20)))]


def fold(text: str, width: int) -> list[str]:
    """``text`` broken between words, and within a word that is wider than ``width``."""
    lines = [""]
    for word in text.split():
        gap = " " if lines[-1] else ""
        if cells(lines[-1]) + len(gap) + cells(word) <= width:
            lines[-1] += gap + word
            continue
        if lines[-1]:
            # A word that has to be broken anyway begins where there is room.
            broken = cells(word) > width > cells(lines[-1]) + 1
            lines[-1:] = [lines[-1] + " "] if broken else [lines[-1], ""]
        for char in word:
            if cells(lines[-1]) + cells(char) > width:
                lines.append("")
            lines[-1] += char
    return lines


def table(header: Sequence[str], rows: Iterable[Sequence[Span]], left: int, indent: int = 0) -> list[Line]:
    """Aligned columns two blanks apart; the first ``left`` are set left, the others (numbers) right."""
    body = [[Span(printable(cell.text), cell.tone) for cell in row] for row in rows]
    grid = [[Span(name, Tone.FAINT) for name in header], *body]
    widths = [max(cells(row[column].text) for row in grid) for column in range(len(header))]
    return [tuple(_cells_of(row, widths, left, indent)) for row in grid]


def _cells_of(row: Sequence[Span], widths: Sequence[int], left: int, indent: int) -> Iterable[Span]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        gap = " " * (width - cells(cell.text))
        before = " " * (indent if column == 0 else 2)
        if column < left:
            yield from (Span(before), cell, Span(gap))
        else:
            yield from (Span(before + gap), cell)


def encodable(text: str, encoding: str | None) -> str:
    """``text`` in what ``encoding`` can say: signs become ASCII, the rest is escaped."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def painted(line: Line, encoding: str | None = None) -> Text:
    """The line as rich's text: styled piece by piece, never parsed for markup."""
    from rich.text import Text  # noqa: PLC0415 - only who wants colour pays for rich

    pieces = ((encodable(printable(span.text), encoding), STYLES[span.tone]) for span in line)
    return Text.assemble(*pieces, no_wrap=True, overflow="ignore", end="\n")


def write(lines: Iterable[Line], stream: TextIO, *, colour: bool = False) -> None:
    """Write the lines, without any control sequence unless ``colour``."""
    if not colour:
        stream.writelines(encodable(plain(line), stream.encoding) + "\n" for line in lines)
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(painted(line, stream.encoding), soft_wrap=True)

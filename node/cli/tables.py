"""What people are shown: values in words, fields below one another, tables.

An id or an amount is never broken: where a table is wider than the terminal, texts are folded, and
where that does not help, its rows stand below one another. On a terminal, ids are shown by their
first digits, which every command takes for the whole. Anything else than a terminal gets tabs
between columns and whole ids, for other programs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import typer

from unchained.node.base.number_words import duration
from unchained.node.base.terminal_text import COMMAND, harmless

ID_DIGITS: Final = 12
"""Hex digits of an id on a terminal: two of a billion ids that are alike in them are rare."""
ID_WIDTH: Final = 64
"""Hex digits of a whole id."""
PEER_SIGNS: Final = 16
"""Signs of a peer's id on a terminal, the first eight of which are alike in all."""
FOLDED_MIN: Final = 12
"""Least width of a column of texts."""
COLUMN_GAP: Final = "  "

TIMES: Final = frozenset({"time", "time_ms"})
"""Members that are moments in ms since the Unix epoch."""

NUMBERED: Final = frozenset({"accounts", "found_accounts"})
"""Members that are lists of numbers, in order and without gaps."""

_SUM: Final = re.compile(r"[+-]?[0-9]+\.[0-9]{8}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PEER: Final = re.compile(r"(?:12D3|Qm)[1-9A-HJ-NP-Za-km-z]{40,60}")
_GOOD: Final = frozenset({"ok", "main", "mining", "unspent", "included", "yes", "running"})
_BAD: Final = frozenset({"invalid", "spent", "off", "backing-off"})
_MONEY: Final = ("amount", "supply", "pool", "pool_share", "fee", "fees", "minted")
BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
"""Colours, as a terminal is told them."""


def width() -> int:
    """Return the columns of the terminal."""
    return shutil.get_terminal_size().columns


def styled(text: str, code: str) -> str:
    """Return a text in a colour, where the terminal has any."""
    plain = (
        not text
        or not code
        or os.environ.get("NO_COLOR")
        or os.environ.get("TERM", "dumb") == "dumb"
    )
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def short_id(text: str) -> str:
    """Return an id of the chain or of a peer by its first digits, any other text whole."""
    if _HASH.fullmatch(text):
        return text[:ID_DIGITS]
    return text[:PEER_SIGNS] if _PEER.fullmatch(text) else text


def print_fields(result: Mapping[str, Any]) -> None:
    """Print names and values, a nested object's under its own name; colours on a terminal."""
    tty = sys.stdout.isatty()
    rows = list(_flat(result, numbered=not tty))
    if tty:
        titled = [
            (_title(name), _worded(name, value), _colour(name, value)) for name, value in rows
        ]
        typer.echo("\n".join(field_lines(titled, width())))
    else:
        for name, value in rows:
            typer.echo(f"{name.removesuffix('_ms')} {value}")


def field_lines(rows: Iterable[tuple[str, str, str]], columns: int) -> list[str]:
    """Return the lines that show titles and values; each row is title, value and colour."""
    rows = list(rows)
    left = _titles_width(rows, columns - len(COLUMN_GAP))
    lines = []
    for title, value, colour in rows:
        named = folded(title, left)
        head = styled(named[0] + " " * (left - _width(named[0])), CYAN)
        first, *others = folded(value, columns - left - len(COLUMN_GAP)) or [""]
        if not others and _width(first) > columns - left - len(COLUMN_GAP):
            # One word that does not fit: beside its title where there is room without the column's
            # space, else on a line of its own. In one piece it can be copied.
            beside = _width(title) + len(COLUMN_GAP) + _width(first) <= columns
            head = styled(title, CYAN)
            apart = [head + COLUMN_GAP + styled(first, colour)]
            lines += apart if beside else [head, styled(first, colour)]
            continue
        lines.append(head + COLUMN_GAP + styled(first, colour))
        for at in range(1, max(len(named), 1 + len(others))):
            below = named[at] if at < len(named) else ""
            more = others[at - 1] if at <= len(others) else ""
            beneath = styled(below, CYAN) + " " * (left - _width(below) + len(COLUMN_GAP))
            lines.append((beneath + styled(more, colour)).rstrip())
    return lines


def _titles_width(rows: Sequence[tuple[str, str, str]], columns: int) -> int:
    """Return the width of the column of titles: such that an id has room beside it, for which long
    titles are folded; no word is broken."""
    widest = max((_width(title) for title, _, _ in rows), default=0)
    if widest + ID_WIDTH <= columns or all(_width(value) != ID_WIDTH for _, value, _ in rows):
        return widest
    least = max(_width(word) for title, _, _ in rows for word in _words(title))
    return max(least, columns - ID_WIDTH) if least + ID_WIDTH <= columns else widest


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Print a table, or `empty` on a terminal. A column `a.b` is the member b of the member a."""
    if not sys.stdout.isatty():
        typer.echo("\t".join(column.rpartition(".")[2].removesuffix("_ms") for column in columns))
        for row in rows:
            typer.echo("\t".join(shown(column, _member(row, column)) for column in columns))
    elif rows:
        typer.echo("\n".join(table_lines(rows, columns, width())))
    else:
        typer.echo(empty)


def table_lines(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], columns_max: int
) -> list[str]:
    """Return the lines of a table that is at most so wide, or of its rows below one another."""
    titles = [_title(column.rpartition(".")[2]) for column in columns]
    cells = [[_cell(column, _member(row, column)) for column in columns] for row in rows]
    right = [all(_is_number(_member(row, column)) for row in rows) for column in columns]
    widths = [
        max(_width(text) for text in (title, *(line[at] for line in cells)))
        for at, title in enumerate(titles)
    ]
    _narrow(widths, titles, cells, columns_max)
    if _total(widths) > columns_max:
        blocks = [
            field_lines(
                [
                    (title, cell, _colour(column, cell))
                    for title, cell, column in zip(titles, line, columns, strict=True)
                ],
                columns_max,
            )
            for line in cells
        ]
        return [line for block in blocks for line in (*block, "")][:-1]
    lines = [_line(titles, widths, right, [BOLD] * len(titles))]
    for row in cells:
        fitted = [folded(cell, size) or [""] for cell, size in zip(row, widths, strict=True)]
        colours = [_colour(column, cell) for column, cell in zip(columns, row, strict=True)]
        for at in range(max(len(parts) for parts in fitted)):
            parts = [parts[at] if at < len(parts) else "" for parts in fitted]
            lines.append(_line(parts, widths, right, colours))
    return lines


def _narrow(
    widths: list[int], titles: Sequence[str], cells: Sequence[Sequence[str]], columns_max: int
) -> None:
    """Take what the table is too wide from its columns of texts, of the widest first; no word is
    broken."""
    least = [
        max(len(word) for text in (title, *(line[at] for line in cells)) for word in _words(text))
        for at, title in enumerate(titles)
    ]
    floor = [min(size, max(word, FOLDED_MIN)) for size, word in zip(widths, least, strict=True)]
    while _total(widths) > columns_max:
        slack = [size - low for size, low in zip(widths, floor, strict=True)]
        if not any(slack):
            return
        widths[max(range(len(widths)), key=lambda at: (slack[at] > 0, widths[at]))] -= 1


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(COLUMN_GAP) * (len(widths) - 1)


def _line(
    parts: Sequence[str], widths: Sequence[int], right: Sequence[bool], colours: Sequence[str]
) -> str:
    made = []
    for text, size, is_right, colour in zip(parts, widths, right, colours, strict=True):
        space = " " * (size - _width(text))
        made.append(space + styled(text, colour) if is_right else styled(text, colour) + space)
    return COLUMN_GAP.join(made).rstrip()


def _words(text: str) -> list[str]:
    # A date stays in one piece: half of one says nothing.
    return re.findall(r"\d{4}-\d{2}-\d{2} \S+|\S+", text) or [""]


def folded(text: str, size: int) -> list[str]:
    """Return a text on lines of at most so many columns; a longer word has a line of its own."""
    if _width(text) <= size:
        return [text]
    joined = " ".join(word.replace(" ", "\u00a0") for word in _words(text))
    lines = textwrap.wrap(joined, max(1, size), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]


def sentence_lines(text: str, size: int) -> list[str]:
    """Return sentences on lines of at most so many columns; a command in backticks stays in one
    piece, so that it can be copied."""
    whole = COMMAND.sub(lambda found: found[0].replace(" ", "\0"), text)
    return [line.replace("\0", " ") for line in folded(whole, size)]


def say(text: str, *, err: bool = False) -> None:
    """Print sentences: on a terminal within its width, on one line for other programs."""
    stream = sys.stderr if err else sys.stdout
    lines = sentence_lines(text, width()) if stream.isatty() else [text]
    typer.echo("\n".join(lines), err=err)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


def _title(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ").replace(".", " ")


def _cell(column: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_cell("", item) for item in value) or "-"
    text = shown(column, value)
    # A peer's id at the end of its address stands beside it.
    address, _, peer = text.rpartition("/p2p/")
    return address if address and _PEER.fullmatch(peer) else short_id(text)


def _worded(name: str, text: str) -> str:
    """Return a field's value as people read it: sums with their unit, numbers of accounts as
    such."""
    if _SUM.fullmatch(text):
        return f"{text} UNC"
    if name in NUMBERED and text != "-":
        return numbers_of(text.split(", "))
    return text


def numbers_of(numbers: Sequence[object]) -> str:
    """Return how many things there are that are numbered without a gap, and their numbers."""
    ends = numbers if len(numbers) < 3 else [numbers[0], numbers[-1]]
    joined = (" to " if len(numbers) > 2 else " and ").join(map(str, ends))
    return f"{len(numbers)} (number{'s' * (len(numbers) > 1)} {joined})"


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return _SUM.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(name: str, value: object) -> str:
    """Return a member's value for a person: times as dates, durations with a unit."""
    last = name.rpartition(".")[2]
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (last in TIMES or last.endswith(("_time", "_time_ms"))):
        return moment(value)
    if isinstance(value, int) and last.endswith("_ms"):
        return duration(value)
    if isinstance(value, float):
        return f"{value:,.1f} ms" if last.endswith("_ms") else f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(shown("", item) for item in value) or "-"
    return harmless(str(value))


def moment(time_ms: int) -> str:
    """Return a time in UTC, to the second."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"


def _flat(
    result: Mapping[str, Any], prefix: str = "", *, numbered: bool
) -> Iterable[tuple[str, str]]:
    """Yield names and values; unless `numbered`, the one object of a list goes without its
    number."""
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.", numbered=numbered)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                place = f"{index}." if numbered or len(value) > 1 else ""
                yield from _flat(item, f"{prefix}{name}.{place}", numbered=numbered)
        else:
            yield prefix + name, shown(name, value)


def _member(row: Mapping[str, Any], column: str) -> object:
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _colour(name: str, text: str) -> str:
    if text in _GOOD or text.startswith("ok"):
        return GREEN
    if text in _BAD:
        return RED
    if text == "-":
        return DIM
    return BOLD if name.endswith((*_MONEY, "balance")) else ""

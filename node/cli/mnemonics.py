"""The 24 words of a wallet between a node and a person: shown to be copied, asked for again, and
taken in from a terminal or a file with each wrong word named.

They are checked here, before a node is asked, so that a slip of the pen costs one word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import count as count_from
from pathlib import Path
from typing import Final

import typer
from mnemonic import Mnemonic

from unchained.node.base.randomness import SYSTEM
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.input_file import read_file
from unchained.node.cli.passphrases import warn_of_readers
from unchained.node.crypto.accounts import MNEMONIC_WORDS, MnemonicError, english, mnemonic_seed

GRID_COLUMNS: Final = 4
WORDS_ASKED: Final = 2
"""Words that a person is asked for, to see that they were written down."""
MNEMONIC_FILE_BYTES_MAX: Final = 4096
"""Bytes of a file of words: numbered and spaced as one likes, they take some 500."""

_NUMBER: Final = re.compile(r"([0-9]{1,2})(?:[.):](?=[a-z]|$)|$)")


def grid(words: Sequence[str]) -> list[str]:
    """Return the lines of a numbered grid, to be read down its columns."""
    rows = -(-len(words) // GRID_COLUMNS)
    cells = [f"{number:>2} {word}" for number, word in enumerate(words, 1)]
    size = max(len(cell) for cell in cells)
    return [
        "   ".join(cell.ljust(size) for cell in cells[row::rows]).rstrip() for row in range(rows)
    ]


def show_new(wallet: str, mnemonic: str, *, confirm: bool) -> None:
    """Show a new wallet's words; on a terminal as a grid, and ask for two of them if `confirm`.

    Raises `CommandFailedError` for who does not say them: the wallet is made all the same.
    """
    if not sys.stdout.isatty():
        typer.echo(mnemonic)
        typer.echo("write these words down: anyone who has them has the coins", err=True)
        return
    words = mnemonic.split()
    typer.echo("Write these words down: anyone who has them has the coins.\n")
    typer.echo("\n".join(grid(words)) + "\n")
    if not confirm or not sys.stdin.isatty():
        return
    again = f"`wallet mnemonic -w {wallet}` shows them again"
    typer.echo(f"The wallet is made. Type {WORDS_ASKED} of the words, to see that you have them:")
    try:
        for number in sorted(SYSTEM.generator().sample(range(1, len(words) + 1), WORDS_ASKED)):
            while typer.prompt(f"Word {number}").strip().lower() != words[number - 1]:
                typer.echo(f"That is not word {number}: look again at what you wrote down.")
    except typer.Abort:
        typer.echo()
        raise CommandFailedError(
            f"interrupted: the wallet {wallet!r} is made all the same; write its words down "
            f"({again})"
        ) from None
    typer.echo(f"The words are written down; {again}.")


def read_mnemonic(file: Path | None) -> str:
    """Return the words from a file or the input, typed visibly on a terminal.

    Raises `CommandFailedError`, which names the wrong word of a file.
    """
    if file is not None:
        content = read_file(file, MNEMONIC_FILE_BYTES_MAX)
        warn_of_readers(file)
        return _from_text(_text_of(content, str(file)), str(file))
    if not sys.stdin.isatty():
        raise CommandFailedError("no words: use a terminal or --mnemonic-file FILE")
    typer.echo(
        f"Type the {MNEMONIC_WORDS} words, as many on a line as you like; others can see them.",
        err=True,
    )
    words: dict[int, str] = {}
    while True:
        line = typer.prompt(f"Word {_first_free(words)}", err=True)
        given = split_words(line)
        # which of too many are the wallet's, only whoever typed them knows
        if (count := len(words) + len(given)) > MNEMONIC_WORDS:
            typer.echo(
                f"With that line {count} words, expected {MNEMONIC_WORDS}: it is left out. "
                "Go on from there.",
                err=True,
            )
            continue
        problem = place_words(words, given)
        if problem:
            typer.echo(f"{problem}. Go on from there.", err=True)
        if _first_free(words) > MNEMONIC_WORDS:
            mnemonic = _in_order(words)
            problem = _problem_with_all(mnemonic)
            if not problem:
                return " ".join(mnemonic)
            typer.echo(f"{problem}. Begin again.", err=True)
            words = {}


def split_words(text: str) -> list[tuple[int | None, str]]:
    """Return the words of a text in lower case, each with the number that stands before it."""
    found: list[tuple[int | None, str]] = []
    number: int | None = None
    for part in Mnemonic.normalize_string(text).lower().split():
        before = _NUMBER.match(part)
        number = number if before is None else int(before[1])
        if word := part[0 if before is None else before.end() :]:
            found.append((number, word))
            number = None
    return found


def place_words(words: dict[int, str], given: Sequence[tuple[int | None, str]]) -> str:
    """Add words to those that are there by their numbers: one with a number has that, as it may
    come out of a grid that is read down its columns; one with none follows the one before it.
    Return what is wrong with the first that cannot be added, empty if all were."""
    at = _first_free(words)
    for number, word in given:
        at = at if number is None else number
        # more than there are without numbers are counted in the end
        if number is not None and not 1 <= number <= MNEMONIC_WORDS:
            return f"there is no word {number}: expected numbers from 1 to {MNEMONIC_WORDS}"
        if at > MNEMONIC_WORDS and (missing := _first_free(words)) < at:
            return f"word {missing} is missing, and {word[:20]!r} would be word {at}"
        if at in words:
            return f"there is a word {at} already: {word[:20]!r} is a second"
        problem = problem_with(at, word)
        if problem:
            return problem
        words[at] = word
        at += 1
    return ""


def _first_free(words: Mapping[int, str]) -> int:
    return next(number for number in count_from(1) if number not in words)


def _in_order(words: Mapping[int, str]) -> list[str]:
    return [words[number] for number in sorted(words)]


def problem_with(number: int, word: str) -> str:
    """Return what is wrong with a word, and the nearest one; empty if it is on the list."""
    known = english().wordlist
    if word in known:
        return ""
    # two letters swapped are the commonest slip, and further apart than another letter by the
    # measure of difflib
    swapped = (
        f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}" for at in range(len(word[:20]) - 1)
    )
    near = next((each for each in swapped if each in known), "")
    near = near or get_close_matches(word, known, n=1, cutoff=0.0)[0]
    return f"word {number}, {word[:20]!r}, is not on the list; the nearest is {near!r}"


def _problem_with_all(words: Sequence[str]) -> str:
    try:
        mnemonic_seed(" ".join(words))
    except MnemonicError as error:
        return str(error)
    return ""


def _from_text(text: str, name: str) -> str:
    found: dict[int, str] = {}
    problem = place_words(found, split_words(text))
    words = _in_order(found)
    if not problem and (missing := _first_free(found)) <= len(found):
        problem = f"word {missing} is missing"
    problem = problem or _problem_with_all(words)
    if problem:
        raise CommandFailedError(f"{name}: {problem}")
    return " ".join(words)


def _text_of(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CommandFailedError(f"{name} is not text in UTF-8") from None

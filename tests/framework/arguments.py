"""What the command lines of the scripts refuse in one line before anything runs."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Container
from pathlib import Path
from typing import NoReturn


class ScriptParser(argparse.ArgumentParser):
    """Reads the words of a script; what is wrong with them is one line, without all the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def refuse_unused(self, given: argparse.Namespace, names: Container[str], beside: str) -> None:
        """End with one line where an argument of these names was given that nothing acts upon
        beside another, or without it: `beside` says which."""
        for action in self._actions:
            if action.dest in names and getattr(given, action.dest) not in (action.default, []):
                name = action.option_strings[-1] if action.option_strings else action.metavar
                self.error(f"{name} does nothing {beside}")


def exit_codes(fine: str, failed: str) -> str:
    """Return what the help of a script says of its exit codes."""
    return (
        f"Exit code: 0 if {fine}; 1 if {failed}; 2 for words that it cannot act upon; "
        "130 after Ctrl-C."
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse `type`: a whole number, and no less than this."""

    def read(word: str) -> int:
        wanted = f"a whole number, {least} or more"
        try:
            number = int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r}, expected {wanted}") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number}, expected {wanted}")
        return number

    return read


def above_zero(word: str) -> float:
    """Read a duration, as argparse's `type`: a finite number above 0."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r}, expected a number above 0")
    return number


def number(least: float | None = None) -> Callable[[str], float]:
    """Return an argparse `type`: a finite number, and no less than this if it is given."""

    def read(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (least is not None and value < least):
            wanted = "a number" if least is None else f"a number, {least:g} or more"
            raise argparse.ArgumentTypeError(f"{word!r}, expected {wanted}")
        return value

    return read


def file_to_write(word: str) -> Path:
    """Read the path of a file to be written at the end of a long run, as argparse's `type`: its
    folder is there, and it can be written."""
    path = Path(word)
    folder = path.parent
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: there is no folder {folder}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, expected a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written")
    return path

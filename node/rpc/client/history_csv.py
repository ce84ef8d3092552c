"""A wallet's history as CSV, for the command line and the page: entries as `wallet.history` gives
them, in UTF-8 with a header row."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from unchained.node.base.terminal_text import harmless

EXPORTED: Final = (
    *("time", "kind", "status", "amount", "received", "sent", "fee", "height", "confirmations"),
    *("account", "payees", "memos", "label", "invoices", "id"),
)
"""The columns."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes the beginning of a formula for."""


class HistoryCsv:
    """Writes entries to a file, the columns' names first."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(EXPORTED)

    def write(self, page: Sequence[Mapping[str, Any]]) -> None:
        """Write some entries."""
        for item in page:
            self._writer.writerow([_cell(name, item.get(name)) for name in EXPORTED])


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "time" and isinstance(value, int):
        return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    if name == "payees" and isinstance(value, Sequence):
        return plain_cell(" ".join(payee["payee"] for payee in value))
    if isinstance(value, list):
        return plain_cell(" ".join(map(str, value)))
    return plain_cell(str(value)) if name == "label" else str(value)


def plain_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: others may have written it."""
    text = harmless(text)
    return f"'{text}" if text.startswith(_FORMULA) else text

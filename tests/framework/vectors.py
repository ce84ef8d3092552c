"""The known answers of tests/vectors, as the tests read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> Any:
    """Return the content of one file of known answers."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(text: str) -> bytes:
    """Return the bytes of hex digits."""
    return bytes.fromhex(text)


def unhex_all(texts: list[str]) -> tuple[bytes, ...]:
    """Return the bytes of each string of hex digits."""
    return tuple(bytes.fromhex(text) for text in texts)


def label(case: Any) -> str:
    """Return a short name for a case in a test's id."""
    return str(case.get("what") or case.get("why") or case.get("network") or "")

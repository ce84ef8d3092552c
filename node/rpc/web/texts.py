"""Values of the node as people read them: amounts, times, hashes, great numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
_LARGE: Final = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def short_hash(text: str) -> str:
    """Return the ends of 64 hex digits."""
    return text if len(text) <= 16 else f"{text[:7]}…{text[-6:]}"


def unc(amount: str) -> str:
    """Return decimal UNC without zeros at its end, its thousands marked."""
    whole, _, fraction = amount.partition(".")
    fraction = fraction.rstrip("0")
    return f"{int(whole):,}" + (f".{fraction}" if fraction else "")


def clock(time_ms: int) -> str:
    """Return a time in UTC."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time_ms: int) -> str:
    """Return a time as HTML's `datetime` has it; empty if no calendar has it."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (OverflowError, ValueError, OSError):
        return ""


def span(duration_ms: float) -> str:
    """Return a length of time in its two largest units."""
    rest = max(0, int(duration_ms))
    if rest < 1_000:
        return f"{rest} ms"
    if rest < 10_000:
        return f"{rest / 1000:.1f} s"
    parts: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def large(number: float) -> str:
    """Return a number with a letter for its thousands."""
    size = 0
    value = float(number)
    while abs(value) >= 999.5 and size < len(_LARGE) - 1:
        value /= 1000
        size += 1
    return f"{value:.3g} {_LARGE[size]}".rstrip()


def size_of(count: int) -> str:
    """Return a count of bytes."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_BYTES) - 1:
        value /= 1024
        unit += 1
    return f"{value:.0f} {_BYTES[unit]}" if unit == 0 else f"{value:.1f} {_BYTES[unit]}"

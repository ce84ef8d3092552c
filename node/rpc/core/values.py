"""The types of parameters and results that JSON has no word for.

A method annotates with them and gets Python values; `decode` and `encode` are msgspec's hooks,
`schema` describes them in the OpenRPC document.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from unchained.node.primitives.amounts import AMOUNT_PATTERN, full, grains_of, shortest
from unchained.node.primitives.types import GRAINS_PER_UNC, MAX_AMOUNT
from unchained.node.rpc.core.wrong_values import got

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_HASH_BYTES: Final = 32

HEX_BYTES_MAX: Final = 1 << 20
"""Bytes that a parameter in hex spells at most: twice the largest transfer, and room."""

SECRET_CHARS_MAX: Final = 16_384
"""Characters of a secret: an exported view of the largest wallet has some 12,000."""


class Amount(int):
    """Grains. Read from a decimal string in UNC ("1.5"), written as one with eight decimals."""

    __slots__ = ()

    expected: ClassVar[str] = 'an amount in UNC, as "1.5"'
    """What it takes, in words."""

    @classmethod
    def parse(cls, raw: object) -> Amount:
        """Return the grains that `raw` stands for. Raises ValueError, naming what is wrong."""
        if isinstance(raw, str):
            return cls(grains_of(raw))
        expected = "an amount is a decimal string in UNC"
        if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= MAX_AMOUNT:
            written = f'{expected}: write "{shortest(raw)}" for {raw} grains'
            if raw * GRAINS_PER_UNC <= MAX_AMOUNT:
                # Whoever wrote a number may have meant UNC.
                written += f', "{raw}" for {raw} UNC'
            raise ValueError(written)
        raise ValueError(f'{expected}, as "1.5", got {got(raw)}')

    def unc(self) -> str:
        """Return the amount in UNC, with eight decimals."""
        return full(self)


class Hex(bytes):
    """Bytes of any length, lower-case hex digits in JSON."""

    __slots__ = ()

    expected: ClassVar[str] = "pairs of lower-case hex digits"
    """What it takes, in words."""

    @classmethod
    def parse(cls, raw: object) -> Hex:
        """Return the bytes that `raw` spells. Raises ValueError, naming what is wrong."""
        if not isinstance(raw, str) or _HEX.fullmatch(raw) is None:
            raise ValueError(f"expected {cls.expected}, got {got(raw)}")
        if len(raw) > 2 * HEX_BYTES_MAX:
            raise ValueError(f"expected at most {2 * HEX_BYTES_MAX} hex digits, got {len(raw)}")
        return cls(bytes.fromhex(raw))


class Hash(bytes):
    """32 bytes (an id, a root, a lock), 64 lower-case hex digits in JSON."""

    __slots__ = ()

    expected: ClassVar[str] = f"{2 * _HASH_BYTES} lower-case hex digits"
    """What it takes, in words."""

    @classmethod
    def parse(cls, raw: object) -> Hash:
        """Return the 32 bytes that `raw` spells. Raises ValueError, naming what is wrong."""
        if not isinstance(raw, str) or len(raw) != 2 * _HASH_BYTES or _HEX.fullmatch(raw) is None:
            raise ValueError(f"expected {cls.expected}, got {got(raw)}")
        return cls(bytes.fromhex(raw))


class Secret:
    """A text that must not be shown: passphrases, mnemonics. `reveal` gives it."""

    __slots__ = ("_text",)

    expected: ClassVar[str] = "a text"
    """What it takes, in words."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    @classmethod
    def parse(cls, raw: object) -> Secret:
        """Wrap `raw`. Raises ValueError if it is no string, without repeating it."""
        if not isinstance(raw, str):
            raise ValueError(f"expected {cls.expected}, got {got(raw, quote=False)}")
        if len(raw) > SECRET_CHARS_MAX:
            raise ValueError(
                f"expected a text of at most {SECRET_CHARS_MAX} characters, got {len(raw)}"
            )
        return cls(raw)


_SCHEMAS: Final[dict[type, dict[str, Any]]] = {
    Amount: {"title": "Amount", "type": "string", "pattern": AMOUNT_PATTERN},
    Hash: {"title": "Hash", "type": "string", "pattern": "^[0-9a-f]{64}$"},
    Hex: {
        "title": "Hex",
        "type": "string",
        "pattern": "^([0-9a-f]{2})*$",
        "maxLength": 2 * HEX_BYTES_MAX,
    },
    Secret: {
        "title": "Secret",
        "type": "string",
        "format": "password",
        "writeOnly": True,
        "maxLength": SECRET_CHARS_MAX,
    },
}


def decode(kind: type, raw: object) -> object:
    """Turn plain JSON into one of this module's types; msgspec's `dec_hook`.

    Raises ValueError for a value that does not fit.
    """
    if issubclass(kind, Amount | Hash | Hex | Secret):
        return kind.parse(raw)
    raise _unknown(kind)


def encode(value: object) -> object:
    """Turn one of this module's types into plain JSON; msgspec's `enc_hook`."""
    if isinstance(value, Amount):
        return value.unc()
    if isinstance(value, Hash | Hex):
        return value.hex()
    if isinstance(value, Secret):
        return value.reveal()
    raise _unknown(type(value))


def schema(kind: type) -> dict[str, Any]:
    """Describe one of this module's types; msgspec's `schema_hook`."""
    found = _SCHEMAS.get(kind)
    if found is None:
        raise _unknown(kind)
    return dict(found)


def _unknown(kind: type) -> NotImplementedError:
    return NotImplementedError(f"{kind.__name__} has no form in JSON")

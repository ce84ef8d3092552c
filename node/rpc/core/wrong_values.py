"""What is wrong with a value, in words: what was expected in its place, and what came.

The decoder says it in its own notation (``Expected `int` >= 1 - at `$.limit` ``), and of a pattern
it repeats the pattern. Whoever calls is told what the type itself says, in words that take no
knowledge of Python; where a pattern stands in the type, its words stand beside it, as
`extra["expected"]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from unchained.node.base.number_words import between

REPEATED_CHARS_MAX: Final = 64
"""Characters of a text that is repeated: as many as an id has."""

LARGEST_SAID: Final = 2**53
"""Above it a bound says nothing to people."""

_AT: Final = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_OWN_WORDS: Final = ("Expected ", "Invalid enum value ")
"""How the decoder begins what it says of a value; all else is said by the types of `values`."""

PATTERN_WORDS: Final = "expected"
"""The key of a type's `extra` under which a pattern is said in words."""


def got(value: object, *, quote: bool = True) -> str:
    """Return what a value is, for whoever sent it. Without `quote` neither a text nor a number is
    repeated: it may be a secret in the wrong place."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and not quote:
        return "a number"
    if isinstance(value, int):
        return str(value) if abs(value) < LARGEST_SAID else "a number that is too large"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        if not quote:
            return "a text"
        if len(value) > REPEATED_CHARS_MAX:
            return f"a text of {len(value)} characters"
        return repr(value) if value else "an empty one"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    return "an object"


def in_words(failure: str, kind: Any, given: object, *, quote: bool = True) -> str:
    """Return in words why `given` is not of the type `kind`, by what the decoder said of it; it
    ends in ``- at `name` `` where it is about a part. `quote` as `got` has it."""
    at = _AT.fullmatch(failure)
    said, path = (failure, "") if at is None else (at[1], at[2])
    where = f" - at `{path.removeprefix('.')}`" if path else ""
    wanted, value = _part(kind, given, path)
    unknown, missing = _UNKNOWN.fullmatch(said), _MISSING.fullmatch(said)
    if unknown is not None:
        name = unknown[1] if len(unknown[1]) <= REPEATED_CHARS_MAX else "…"
        return f"there is no member {name!r}, expected {_words(wanted)}{where}"
    if missing is not None:
        return f"the member {missing[1]!r} is missing, expected {_words(wanted)}{where}"
    if not said.startswith(_OWN_WORDS):
        return said + where
    near = _nearest(wanted, value) if quote else ""
    return f"expected {_words(wanted)}, got {got(value, quote=quote)}{near}{where}"


def _part(kind: Any, given: object, path: str) -> tuple[Any, object]:
    """Return the type at a path into a type, and the value there."""
    # Only where something is wrong: a command that ends well has no use for it.
    from msgspec import inspect

    wanted: Any = inspect.type_info(kind)
    value: Any = given
    for member, index in _STEP.findall(path):
        for option in _options(wanted):
            if index and isinstance(option, inspect.ListType | inspect.VarTupleType):
                wanted = option.item_type
                break
            if member and isinstance(option, inspect.StructType):
                wanted = next(f.type for f in option.fields if f.encode_name == member)
                break
        if index and isinstance(value, Sequence):
            value = value[int(index)]
        elif member and isinstance(value, Mapping):
            value = value.get(member)
    return wanted, value


def _options(kind: Any) -> list[Any]:
    """Return the types of a union that are not null, or the one type."""
    from msgspec.inspect import Metadata, NoneType, UnionType

    while isinstance(kind, Metadata) and PATTERN_WORDS not in (kind.extra or {}):
        kind = kind.type
    if isinstance(kind, UnionType):
        return [found for one in kind.types for found in _options(one)]
    return [] if isinstance(kind, NoneType) else [kind]


def _words(kind: Any) -> str:
    return _joined(dict.fromkeys(_of_one(option) for option in _options(kind))) or "null"


def _nearest(kind: Any, value: object) -> str:
    """Return a guess at which of the words that were expected was meant, where some were."""
    from msgspec import inspect

    from unchained.node.base.near_names import did_you_mean

    known: list[str] = []
    for option in _options(kind):
        if isinstance(option, inspect.EnumType):
            known += [str(member.value) for member in option.cls]
        elif isinstance(option, inspect.LiteralType):
            known += map(str, option.values)
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    return f"; {hint}" if hint else ""


def _of_one(kind: Any) -> str:
    from msgspec import inspect

    if isinstance(kind, inspect.Metadata):
        return str((kind.extra or {})[PATTERN_WORDS])
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _bounds(kind.ge, kind.le)
    if isinstance(kind, inspect.FloatType):
        return "a number" + _bounds(kind.ge, kind.le)
    if isinstance(kind, inspect.StrType):
        return "a text" + _size(kind.min_length, kind.max_length, "characters")
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return "a list" + _size(kind.min_length, kind.max_length, "entries")
    if isinstance(kind, inspect.EnumType):
        return _joined(str(member.value) for member in kind.cls)
    if isinstance(kind, inspect.LiteralType):
        return _joined(map(str, kind.values))
    if isinstance(kind, inspect.StructType):
        return f"an object with {', '.join(field.encode_name for field in kind.fields)}"
    if isinstance(kind, inspect.CustomType):
        return str(getattr(kind.cls, "expected", "another value"))
    return "an object"


def _joined(words: Any) -> str:
    *first, last = list(words) or [""]
    return f"{', '.join(first)} or {last}" if first else str(last)


def _bounds(low: float | None, high: float | None) -> str:
    said = between(low, None if high is not None and high >= LARGEST_SAID else high)
    if not said:
        return ""
    return f" from {said}" if said[0].isdigit() or said[0] == "-" else f" of {said}"


def _size(low: int | None, high: int | None, of: str) -> str:
    if high is not None:
        return f" of {low} to {high} {of}" if low else f" of at most {high} {of}"
    if not low:
        return ""
    return " that is not empty" if low == 1 else f" of at least {low} {of}"

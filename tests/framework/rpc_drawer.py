"""Calls of RPC methods drawn from their own description: by types, with what answers have named.

Half and more of what is drawn passes the checks of parameters. What would take long is bounded
here, not left out.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any, Final

BOUNDS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "chain.difficulty_history": {"step": (1, 2, 50)},
    "debug.trace": {"seconds": (0.1,)},
    "debug.memory": {"kinds": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1)},
    "mine.benchmark": {"seconds": (0.1,), "threads": (1,)},
    "mine.generate": {"anchors": (1, 1, 2), "coins": (0, 0, 1)},
    "wallet.create": {"accounts": (1, 1, 2)},
    "wallet.restore": {"accounts": (1, 2)},
    "wallet.receipt": {"anchors": (1, 8)},
}
"""What is drawn for parameters that make work: little."""

POOL_MAX: Final = 40
"""Values of one name that are remembered."""

NUMBERS: Final = (0, 1, 2, 3, 7, 100, 2**31, 2**53, 2**63 - 1)
TEXTS: Final = (
    "default",
    "a",
    "b",
    "x" * 64,
    "lock:" + "11" * 32,
    "contract:none",
    "unchained:x?amount=1",
    "127.0.0.1",
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWM5W2Y9MZcj9Pr4vucahKJ9pPwwNVZ5VHv2dK1yu85vnC",
    "file.chain",
    "0" * 16,
    "a label \u202e with \u0007 all",
    "=1+1",
    "",
)
JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    1.5,
    2**64,
    "",
    "x",
    "0x00",
    "é" * 300,
    "\x00",
    "-1",
    "1e9",
    [],
    [[]],
    {},
    {"a": {"b": 1}},
    "00" * 31,
    "zz" * 32,
)
AMOUNTS: Final = ("0.1", "0.00000001", "1", "0", "92233720368.54775807", "0.5")
ALIKE: Final[dict[str, tuple[str, ...]]] = {
    "anchor": ("anchor", "id", "tip", "parent", "genesis"),
    "after": ("id", "coin"),
    "claim": ("text",),
    "coin": ("id", "coin", "anchor"),
    "coins": ("id",),
    "contract": ("text",),
    "file": ("file",),
    "files": ("file",),
    "id": ("id", "txid", "lock"),
    "lock": ("lock",),
    "parties": ("text",),
    "payee": ("text", "uri"),
    "raw": ("raw",),
    "refund": ("text",),
    "token": ("id",),
    "view": ("view",),
    "mnemonic": ("mnemonic", "words"),
}
"""Under which names of results something may be found for a parameter."""


class Drawer:
    """Draws calls of the methods of one description, from one source of chance."""

    def __init__(self, rng: random.Random, document: dict[str, Any]) -> None:
        self._rng = rng
        self._methods = {method["name"]: method for method in document["methods"]}
        self._schemas = document["components"]["schemas"]
        self._known: defaultdict[str, list[Any]] = defaultdict(list)
        self._room = ""

    def remember(self, value: Any, name: str = "") -> None:
        """Note what an answer names, to ask for it."""
        if isinstance(value, dict):
            for key, inner in value.items():
                self.remember(inner, key)
        elif isinstance(value, list):
            for inner in value[:8]:
                self.remember(inner, name)
        elif isinstance(value, str) and name and 0 < len(value) <= 1 << 16:
            known = self._known[name]
            if value in known:
                return
            if len(known) >= POOL_MAX:
                known.pop(self._rng.randrange(POOL_MAX))
            known.append(value)

    def params(self, name: str) -> Any:
        """Return parameters for a method: right ones, or ones with a mistake."""
        method = self._methods[name]
        self._room = name.partition(".")[0]
        drawn = {
            parameter["name"]: self._parameter(name, parameter)
            for parameter in method["params"]
            if parameter["required"]
            or parameter["name"] in BOUNDS.get(name, {})
            or self._rng.random() < 0.4
        }
        if self._rng.random() < 0.3:
            return self._spoiled(method, drawn)
        names = [parameter["name"] for parameter in method["params"]]
        if self._rng.random() < 0.2 and list(drawn) == names[: len(drawn)]:
            return list(drawn.values())
        return drawn

    def _spoiled(self, method: dict[str, Any], drawn: dict[str, Any]) -> Any:
        kind = self._rng.randrange(5)
        if kind == 0 or not method["params"]:
            return drawn | {self._rng.choice(("", "nobody", "name", "id", "x" * 200)): 1}
        if kind == 1:
            return [*drawn.values(), *self._rng.choices(JUNK, k=self._rng.randrange(1, 20))]
        if kind == 2 and drawn:
            return {key: drawn[key] for key in list(drawn)[1:]}
        parameter = self._rng.choice(method["params"])["name"]
        return drawn | {parameter: self._rng.choice(JUNK)}

    def _parameter(self, method: str, parameter: dict[str, Any]) -> Any:
        name = parameter["name"]
        bounds = BOUNDS.get(method, {}).get(name)
        if bounds is not None:
            return self._rng.choice(bounds)
        return self._value(parameter["schema"], name)

    def _value(self, schema: dict[str, Any], name: str) -> Any:
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[-1]]
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._value(self._rng.choice(schema[union]), name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name)
            case "integer":
                return self._number(schema)
            case "number":
                return float(min(self._number(schema), 2**53))
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case "string":
                return self._text(schema, name)
        return self._rng.choice(JUNK)

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            key: self._value(kind, key)
            for key, kind in schema.get("properties", {}).items()
            if key in required or self._rng.random() < 0.6
        }

    def _array(self, schema: dict[str, Any], name: str) -> list[Any]:
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", 3), least + 3)
        return [
            self._value(schema.get("items", {}), name)
            for _ in range(self._rng.randint(least, max(least, most)))
        ]

    def _number(self, schema: dict[str, Any]) -> int | float:
        least, most = schema.get("minimum", 0), schema.get("maximum", 2**63 - 1)
        if self._rng.random() < 0.2:
            return self._rng.choice((least, most))  # type: ignore[no-any-return]
        fitting = [number for number in NUMBERS if least <= number <= most]
        return self._rng.choice(fitting or [least])  # type: ignore[no-any-return]

    def _text(self, schema: dict[str, Any], name: str) -> str:
        title = schema.get("title")
        if title == "Amount":
            return self._rng.choice(AMOUNTS)
        if title == "Secret" and name.endswith("passphrase"):
            return self._rng.choice(("pass", "pass", "", "wrong"))
        found = [text for key in (name, *ALIKE.get(name, ())) for text in self._known[key]]
        fitting = [text for text in found if fits(schema, text)]
        if fitting and self._rng.random() < 0.85:
            return str(self._rng.choice(fitting))
        if title == "Hash":
            return self._rng.randbytes(32).hex()
        if title == "Hex":
            return self._rng.randbytes(self._rng.choice((0, 1, 32, 198, 500))).hex()
        candidates = [text for text in (*TEXTS, *fitting) if fits(schema, text)]
        return str(self._rng.choice(candidates or TEXTS))


def fits(schema: dict[str, Any], text: str) -> bool:
    """Return whether a text is what a schema of a string asks for."""
    if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 1 << 30):
        return False
    return "pattern" not in schema or re.search(schema["pattern"], text) is not None

"""The methods as an OpenRPC 1.3.2 document, generated from their code."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from unchained.node.base.parameter_words import PARAMETER_WORDS
from unchained.node.base.runner import Runner
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import FAMILIES, RpcError
from unchained.node.rpc.core.registry import Access, Method, Registry, method
from unchained.node.rpc.core.values import encode, schema

_OPENRPC: Final = "1.3.2"
_REFERENCE: Final = "#/components/schemas/{name}"


class Discovery:
    """The method that describes all others, and itself."""

    def __init__(self, rooms: tuple[object, ...], *, version: str, runner: Runner) -> None:
        self._rooms = rooms
        self._version = version
        self._runner = runner
        self._document: msgspec.Raw | None = None

    @method("rpc.discover", Access.PUBLIC)
    @user_text("Return this description of all methods: an OpenRPC document.")
    async def discover(self) -> dict[str, Any]:
        # Made when it is asked for, since few nodes ever are and it takes a tenth of a second; and
        # encoded once: the next one who asks gets a copy.
        if self._document is None:
            self._document = await self._runner.run(self._describe)
        return cast("dict[str, Any]", self._document)

    def _describe(self) -> msgspec.Raw:
        described = describe(Registry(*self._rooms, self), version=self._version)
        return msgspec.Raw(msgspec.json.encode(described, enc_hook=encode))


def registry(*rooms: object, version: str, runner: Runner) -> Registry:
    """Return the registry of `rooms` with `rpc.discover` among them, which works in `runner`."""
    return Registry(*rooms, Discovery(rooms, version=version, runner=runner))


def describe(methods: Registry, *, version: str) -> dict[str, Any]:
    """Return the OpenRPC document of `methods`. `version` is the node's."""
    kinds = [
        kind
        for found in methods.values()
        for kind in (*(p.kind for p in found.parameters), found.result)
    ]
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=schema, ref_template=_REFERENCE
    )
    remaining = iter(schemas)
    return {
        "openrpc": _OPENRPC,
        "info": {"title": "Unchained node", "version": version},
        "methods": [_method(found, remaining) for found in methods.values()],
        "components": {
            "schemas": components,
            "errors": {family.family: _error(family) for family in FAMILIES},
        },
    }


def _method(found: Method, schemas: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": found.name,
        "summary": found.summary,
        "paramStructure": "either",
        "params": [],
    }
    if found.description:
        made["description"] = found.description
    for parameter in found.parameters:
        described = next(schemas)
        entry: dict[str, Any] = {"name": parameter.name, "required": parameter.required}
        words = _words(described) or PARAMETER_WORDS.get(parameter.name)
        if words:
            entry["description"] = words
        if not parameter.required:
            default = msgspec.to_builtins(parameter.default, enc_hook=encode)
            described = {**described, "default": default}
        entry["schema"] = described
        made["params"].append(entry)
    made["result"] = {"name": "result", "schema": next(schemas)}
    made["errors"] = [{"$ref": f"#/components/errors/{family.family}"} for family in found.errors]
    made["x-access"] = found.access.name.lower()
    if found.scope is not None:
        made["x-scope"] = str(found.scope)
    if found.reads:
        made["x-reads"] = found.reads if isinstance(found.reads, bool) else list(found.reads)
    if found.long_poll:
        made["x-long-poll"] = True
    return made


def _words(schema: dict[str, Any]) -> str | None:
    """Return how a parameter's own type describes it, also where it may be left out."""
    if "$ref" in schema:
        return None
    kinds = [schema, *(kind for kind in schema.get("anyOf", ()) if "$ref" not in kind)]
    found: list[str] = [kind["description"] for kind in kinds if "description" in kind]
    return found[0] if found else None


def _error(family: type[RpcError]) -> dict[str, Any]:
    return {"code": family.code, "message": family.summary, "data": {"error": family.word}}

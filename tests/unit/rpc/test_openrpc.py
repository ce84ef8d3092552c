"""The description of the methods, and docs/rpc.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from trio.testing import trio_test

from tests.framework.rpc_server import SampleRoom
from unchained.node.base.parameter_words import PARAMETER_WORDS
from unchained.node.base.runner import InlineRunner
from unchained.node.base.vocabulary import RENAMINGS, Named
from unchained.node.rpc.core import document
from unchained.node.rpc.core.errors import FAMILIES
from unchained.node.rpc.core.openrpc import Discovery, describe, registry
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.methods.rooms import ROOMS

ROOT = Path(__file__).parents[3]


@trio_test
async def test_discovery_describes_every_method_and_itself() -> None:
    methods = registry(SampleRoom(), version="1.2.3", runner=InlineRunner())
    described = msgspec.json.decode(await methods.find("rpc.discover").call([]))
    assert described["openrpc"] == "1.3.2"
    assert described["info"]["version"] == "1.2.3"
    assert [method["name"] for method in described["methods"]] == list(methods)
    pay = next(m for m in described["methods"] if m["name"] == "test.pay")
    assert [(p["name"], p["required"]) for p in pay["params"]] == [
        ("txid", True),
        ("value", True),
        ("note", False),
    ]
    assert pay["params"][0]["schema"] == {
        "title": "Hash",
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
    }
    assert pay["params"][2]["schema"]["default"] == ""
    assert pay["result"]["schema"] == {"$ref": "#/components/schemas/Paid"}
    assert pay["errors"] == [{"$ref": "#/components/errors/WalletRefused"}]
    assert pay["x-access"] == "full"
    height = next(m for m in described["methods"] if m["name"] == "test.height")
    assert height["params"][0]["description"] == "anchors since genesis"
    assert height["description"] == "A second paragraph says more."
    assert next(m for m in described["methods"] if m["name"] == "test.poll")["x-long-poll"]


def test_all_references_lead_somewhere() -> None:
    described = describe(Registry(SampleRoom, Discovery), version="0")
    for reference in set(re.findall(r"'\$ref': '#/([^']+)'", repr(described))):
        target = described
        for part in reference.split("/"):
            target = target[part]


def test_the_document_describes_everything() -> None:
    text = document.render(describe(Registry(SampleRoom, Discovery), version="0"))
    for name in Registry(SampleRoom, Discovery):
        assert f"### {name}\n" in text
    for family in FAMILIES:
        assert str(family.code) in text
    assert (
        "| `height` | integer (from 0, to 9223372036854775807) | required | anchors since" in text
    )
    assert "Returns [Paid](#paid)." in text
    assert "Access: `full`." in text
    assert "Access: `public`; waits for something to happen." in text
    assert "| `value` | Amount | required |  |" in text


def test_codes_and_words_are_distinct() -> None:
    assert len({family.code for family in FAMILIES}) == len(FAMILIES)
    assert len({family.word for family in FAMILIES}) == len(FAMILIES)


def test_the_document_in_docs_is_current() -> None:
    """After a change: python -m unchained.node.rpc.core.document > docs/rpc.md"""
    assert (ROOT / "docs" / "rpc.md").read_text() == document.text(ROOMS)


def unbounded(schema: dict[str, Any], schemas: dict[str, Any], path: str) -> Iterator[str]:
    """Yield what of a parameter has no bound."""
    if "$ref" in schema:
        yield from unbounded(schemas[schema["$ref"].rpartition("/")[2]], schemas, path)
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from unbounded(each, schemas, path)
    kind = schema.get("type")
    is_fixed = "enum" in schema or "const" in schema
    if kind in ("integer", "number") and not {"minimum", "maximum"} <= schema.keys():
        yield path
    if kind == "integer" and not -(2**63) <= schema.get("maximum", 0) < 2**63:
        yield f"{path}: more than 63 bits"
    has_pattern = "pattern" in schema and not re.search(r"[*+]", schema["pattern"])
    if kind == "string" and not is_fixed and not has_pattern and "maxLength" not in schema:
        yield path
    if kind == "array":
        if "maxItems" not in schema:
            yield path
        yield from unbounded(schema["items"], schemas, f"{path}[]")
    for name, member in schema.get("properties", {}).items():
        yield from unbounded(member, schemas, f"{path}.{name}")


def test_every_parameter_of_every_method_has_bounds() -> None:
    described = describe(Registry(*ROOMS, Discovery), version="0")
    schemas = described["components"]["schemas"]
    loose = [
        f"{method['name']} {found}"
        for method in described["methods"]
        for param in method["params"]
        for found in unbounded(param["schema"], schemas, param["name"])
    ]
    assert loose == []


def test_results_use_the_vocabulary() -> None:
    """The table says what each member that was renamed is called: the types have it so."""
    types = describe(Registry(*ROOMS), version="0")["components"]["schemas"]
    for row in RENAMINGS:
        if row.named is Named.FIELD:
            members = types[row.where]["properties"]
            assert row.new in members, row
            assert row.old not in members or row.old == "height", row


def test_what_is_an_amount_is_not_called_a_value() -> None:
    types = describe(Registry(*ROOMS), version="0")["components"]["schemas"]
    amounts = [
        f"{name}.{member}"
        for name, kind in types.items()
        for member, schema in kind.get("properties", {}).items()
        if member == "value" and "Amount" in repr(schema)
    ]
    assert amounts == []


def test_every_parameter_has_a_description() -> None:
    described = describe(Registry(*ROOMS, Discovery), version="0")
    bare = [
        f"{method['name']}: {parameter['name']}"
        for method in described["methods"]
        for parameter in method["params"]
        if not parameter.get("description")
    ]
    assert bare == []


def test_every_word_for_parameters_is_used() -> None:
    described = describe(Registry(*ROOMS, Discovery), version="0")
    names = {p["name"] for method in described["methods"] for p in method["params"]}
    assert set(PARAMETER_WORDS) - names == set()

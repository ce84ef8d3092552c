"""docs/wire.md says what the code does, and protocol.md §11 lists the same requests and topics."""

from __future__ import annotations

import re

import pytest

from tests.framework.wire_document import COMMAND, DOCUMENT, SECTIONS, examples, filled
from tests.framework.wire_document import Chain as ExampleChain
from unchained.node.wire import limits
from unchained.node.wire.messages import Code

PROTOCOL = DOCUMENT.with_name("protocol.md")
KINDS = [kind.name for kind in limits.EXCHANGES]
TOPICS = [kind.name for kind in limits.TOPICS]


def section_11() -> str:
    text = PROTOCOL.read_text("utf-8")
    return text[text.index("## 11. ") : text.index("## 12. ")]


def test_its_tables_and_examples_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert filled(text) == text, f"run {COMMAND}"


def test_a_change_of_any_section_would_be_seen() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name, made in SECTIONS.items():
        changed = text.replace(made(), "something else")
        assert changed != text, name
        assert filled(changed) == text


def test_every_request_is_in_both_documents() -> None:
    assert set(examples(ExampleChain())) == set(KINDS)
    (requests,) = re.findall(r"^- request/response: (.*)$", section_11(), re.MULTILINE)
    listed = re.findall(r"(?:^|[,;] )`(\w+)`", requests)
    assert listed == KINDS
    text = DOCUMENT.read_text("utf-8")
    layouts = text[text.index("### Layouts") : text.index("### Limits")]
    assert re.findall(r"^\| `(\w+)` \|", layouts, re.MULTILINE) == KINDS


def test_every_topic_is_in_both_documents() -> None:
    (topics,) = re.findall(r"^- gossip topics (.*)$", section_11(), re.MULTILINE)
    assert re.findall(r"/(\w+)/1`", topics) == TOPICS
    text = DOCUMENT.read_text("utf-8")
    gossip = text[text.index("## Gossip") : text.index("topic limits")]
    assert re.findall(r"^\| `/unchained/<g>/(\w+)/1` \|", gossip, re.MULTILINE) == TOPICS


@pytest.mark.parametrize("name", ["identify", "ping"])
def test_what_libp2p_serves_is_named_too(name: str) -> None:
    assert f"`{name}`" in section_11()


def test_every_code_is_explained() -> None:
    text = DOCUMENT.read_text("utf-8")
    for code in Code:
        assert re.search(rf"^\| {code.value} \| `{code.name}`", text, re.MULTILINE)

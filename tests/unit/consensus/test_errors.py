"""The names of the rules, in the protocol's text, in the code and in the tests that raise them, and
the words for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unchained.node.consensus import errors, policy
from unchained.node.primitives.errors import ProtocolError
from unchained.node.rpc.core.errors import from_protocol
from unchained.node.rpc.node_server import TRANSLATIONS

ROOT = Path(__file__).parents[3]

TESTS = (
    "consensus/test_coins.py",
    "consensus/test_transition.py",
    "consensus/test_transfers.py",
    "chain/test_core.py",
    "chain/test_main_chain.py",
)
"""Where each rule is raised, by name."""


CLASSES = [getattr(errors, name) for name in errors.__all__]
RULES = [
    cls
    for cls in CLASSES
    if issubclass(cls, ProtocolError)
    and not any(other is not cls and issubclass(other, cls) for other in CLASSES)
]


def names_in_code() -> set[str]:
    families = {"PROTOCOL_ERROR"}
    names = [cls.name for cls in RULES]
    assert len(set(names)) == len(names)
    return set(names) - families


def test_the_protocol_names_the_rules_of_the_code() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    listed = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text))
    assert listed == names_in_code()


def test_every_rule_is_raised_by_a_test() -> None:
    text = "".join((ROOT / "tests" / "unit" / name).read_text() for name in TESTS)
    raised = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', text))
    exports = {name for name in names_in_code() if name.startswith("EXPORT_")}
    assert len(exports) == 3
    assert names_in_code() - exports <= raised


@pytest.mark.parametrize("rule", [*RULES, *policy.PolicyError.__subclasses__()])
def test_people_are_told_of_a_broken_rule_in_words(
    rule: type[ProtocolError | policy.PolicyError],
) -> None:
    broken = rule(expected="one thing", actual="another")
    assert str(broken) == f"{rule.name}: expected one thing, got another"
    words, _, how = broken.in_words().rpartition(": ")
    assert how == "expected one thing, got another"
    assert len(words.split()) > 2
    assert words[:1].islower()
    assert rule.name not in words
    assert "\n" not in words


def test_rpc_has_the_words_in_the_text_and_the_name_in_the_data() -> None:
    unknown = from_protocol(errors.CoinUnknownError(actual=b"\xab"))
    assert unknown.message.startswith("a coin that it spends is unknown")
    assert unknown.error == "COIN_UNKNOWN"
    (translate,) = [how for kind, how in TRANSLATIONS if kind is policy.PolicyError]
    refused = translate(policy.DustError(expected="outputs of at least 1000 grains", actual=5))
    assert refused.message == (
        "an output is worth too little to be relayed: expected outputs of at least 1000 grains, "
        "got 5"
    )
    assert refused.error == "DUST"

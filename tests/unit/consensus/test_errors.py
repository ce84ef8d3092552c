"""The names of the rules: in the protocol's text, in the code, and in the tests that raise them."""

from __future__ import annotations

import re
from pathlib import Path

from unchained.node.consensus import errors
from unchained.node.primitives.errors import ProtocolError

ROOT = Path(__file__).parents[3]

TESTS = (
    "consensus/test_coins.py",
    "consensus/test_transition.py",
    "consensus/test_transfers.py",
    "chain/test_core.py",
    "chain/test_main_chain.py",
)
"""Where each rule is raised, by name."""


def names_in_code() -> set[str]:
    families = {"PROTOCOL_ERROR"}
    classes = [getattr(errors, name) for name in errors.__all__]
    leaves = [
        cls
        for cls in classes
        if issubclass(cls, ProtocolError)
        and not any(other is not cls and issubclass(other, cls) for other in classes)
    ]
    names = [cls.name for cls in leaves]
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

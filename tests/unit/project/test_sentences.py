"""Each check quotes the sentence of its rule, and the sentence stands in the protocol's text.

The form, on one line above the check:

    # Protocol §5.2: BAD_ORDER: "strictly ascending"

The name of the rule is left out where the sentence decides something that is not refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.consensus.test_errors import names_in_code
from unchained.node.consensus.policy import PolicyError

ROOT = Path(__file__).parents[3]
CITED = re.compile(r"^# Protocol §(\d+(?:\.\d+)?): (?:([A-Z]+(?:_[A-Z]+)*): )?\"(.+)\"$")


class Citation(NamedTuple):
    place: str
    section: str
    rule: str | None
    sentence: str


def comments() -> list[tuple[str, str]]:
    """Return the comments in node/consensus that cite the protocol, with their places."""
    return [
        (f"{path.name}:{number}", line.strip())
        for path in sorted((ROOT / "node" / "consensus").glob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith("# Protocol")
    ]


def citations() -> list[Citation]:
    found = [(place, CITED.match(text)) for place, text in comments()]
    return [Citation(place, *match.groups()) for place, match in found if match is not None]


def sections() -> dict[str, str]:
    """Return the text of each numbered section, without that of its subsections."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    parts = re.split(r"^###? (\d+(?:\.\d+)?)\.? .*$", text, flags=re.MULTILINE)
    return {
        number: " ".join(body.split())
        for number, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def policy_names() -> set[str]:
    return {error.name for error in PolicyError.__subclasses__()}


def test_every_citation_has_the_form() -> None:
    assert [(place, text) for place, text in comments() if not CITED.match(text)] == []


@pytest.mark.parametrize("citation", citations(), ids=lambda citation: citation.place)
def test_the_sentence_stands_in_the_section(citation: Citation) -> None:
    assert " ".join(citation.sentence.split()) in sections()[citation.section]


def test_every_rule_is_cited_above_its_check() -> None:
    exports = {name for name in names_in_code() if name.startswith("EXPORT_")}
    cited = {citation.rule for citation in citations() if citation.rule is not None}
    assert cited == (names_in_code() - exports) | policy_names()


FILES_REFUSED = {"NOT_A_COIN_PROOF", "FALSE_COIN_PROOF", "UNPROVEN_HISTORY"}
"""Of proof files, which no rule of the chain is about: §12.1 has no names for what fails there."""


def test_every_error_is_raised_below_a_citation_of_its_name() -> None:
    for path in (ROOT / "node" / "consensus").glob("*.py"):
        cited: set[str] = set()
        for line in path.read_text().splitlines():
            if found := CITED.match(line.strip()):
                cited.add(found[2])
            if raised := re.match(r"\s+raise (\w+)Error\(", line):
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", raised[1]).upper()
                assert name in cited | FILES_REFUSED, (path.name, line)

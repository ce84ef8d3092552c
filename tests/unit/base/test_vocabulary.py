"""The table of names: what docs/vocabulary.md shows, and what an old name leads to."""

from __future__ import annotations

from pathlib import Path

from unchained.node.base.vocabulary import RENAMINGS, Named, document, find

ROOT = Path(__file__).parents[3]


def test_the_document_is_as_generated() -> None:
    assert (ROOT / "docs/vocabulary.md").read_text() == document()


def test_a_name_is_renamed_once() -> None:
    rows = [(row.named, row.where, row.old) for row in RENAMINGS]
    assert len(rows) == len(set(rows))


def test_no_new_name_is_an_old_one_of_the_same_thing() -> None:
    assert [row for row in RENAMINGS if find(row.named, row.where, row.new) is not None] == []


def test_an_old_name_is_found_where_it_belonged() -> None:
    found = find(Named.PARAMETER, "wallet.send", "name")
    assert found is not None
    assert found.new == "wallet"
    assert find(Named.PARAMETER, "chain.export", "name") is None
    assert find(Named.METHOD, "", "wallet.send") is None

"""The walks through the code, which its documentation shows."""

from __future__ import annotations

import pytest

from tests.framework.walks import (
    BEGIN,
    DOCUMENT,
    END,
    OMITTED,
    as_json,
    as_markdown,
    in_document,
    make_walks,
    open_house,
)


def test_walks_are_the_same_each_time_and_hold_what_an_event_causes() -> None:
    walks = make_walks()
    assert as_json(walks, "") == as_json(make_walks(), "")
    coin, payment, sync = walks
    for walk in walks:
        assert not any(file.startswith(OMITTED) for file in walk.files)
        assert f"{len(walk.files)}. `" in as_markdown(walk)
        assert any(file.startswith("node/chain/") for file in walk.files)
        assert any(file.startswith("storage/") for file in walk.files)
    # What the event does not touch, and what other nodes do, is not in it.
    assert not any(file.startswith(("node/wallet/", "node/rpc/", "miner/")) for file in coin.files)
    assert any(file.startswith("node/wallet/") for file in payment.files)
    assert not any(file.startswith("node/wallet/") for file in sync.files)
    assert coin.decoded.total() == coin.verified.total() == 0
    # Handed along from the wallet that made it, a transfer is decoded and verified once.
    for walk in (payment, sync):
        assert walk.decoded.total() == walk.verified.total() == 1
    assert sync.per_batch.total() == 1
    # What stands between the marks of the documentation gives way, and nothing else.
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = in_document(text, [coin])
    assert written == f"before\n{BEGIN}\n\n{as_markdown(coin)}\n\n{END}\nafter\n"
    assert in_document(written, [coin]) == written
    with pytest.raises(ValueError, match="marks"):
        in_document("nothing", [coin])


async def test_a_transfer_is_decoded_and_verified_once_from_gossip_to_a_body() -> None:
    async with open_house() as house:
        walk = await house.walk_heard_payment()
    assert walk.decoded.total() == walk.verified.total() == 1


def test_the_documentation_has_a_place_for_the_walks() -> None:
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    assert before.count("\n## ") > 3
    assert begin
    assert "\n### " in rest.partition(END)[0]

"""What has been proven is a type: who may say so of a coin."""

from __future__ import annotations

import re
from pathlib import Path

NODE = Path(__file__).parents[3] / "node"

PROVERS = {
    "chain/results.py",  # the anchor's own coin of an anchor that is proven
    "chain/chain_intake.py",  # has called the verifier
    "chain/coin_intake.py",  # has called the verifier
    "chain/service.py",  # has called the verifier
    "chain/remains.py",  # finds them by their ids in a store that took in proven ones alone
    "sync/downloader.py",  # has called the verifier, or need not: the operator trusts the anchor
    "rpc/methods/mining.py",  # has mined it
}


def makers_of(pattern: str) -> set[str]:
    """Return the modules that make what is named so."""
    return {
        str(path.relative_to(NODE))
        for path in NODE.rglob("*.py")
        if re.search(rf"\b{pattern}\((?!msgspec)", path.read_text())
    }


def test_only_who_knows_the_mix_makes_a_proven_coin() -> None:
    assert makers_of("Proven(Coin|Anchor)") == PROVERS


def test_only_a_verdict_makes_a_proven_transfer() -> None:
    assert makers_of("ProvenTransfer") == {"consensus/transfers.py"}

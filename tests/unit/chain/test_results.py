"""What has been proven is a type: who may say so of a coin."""

from __future__ import annotations

import re
from pathlib import Path

NODE = Path(__file__).parents[3] / "node"

PROVERS = {
    "chain/results.py",  # the anchor's own coin of an anchor that is proven
    "chain/coin_intake.py",  # has called the verifier
    "chain/service.py",  # has called the verifier
    "sync/downloader.py",  # has called the verifier, or need not: the operator trusts the anchor
    "rpc/methods/mining.py",  # has mined it
}


def test_only_who_knows_the_mix_makes_a_proven_coin() -> None:
    found = {
        str(path.relative_to(NODE))
        for path in NODE.rglob("*.py")
        if re.search(r"\bProven(Coin|Anchor)\((?!msgspec)", path.read_text())
    }
    assert found == PROVERS

"""Proof files of random chains: every coin's says what the naive chain says, and no byte of one
can be another."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.framework.chains import Feeder, as_made, nearly_as_made, open_core
from tests.framework.forge import BACKEND, Forge, Forged
from tests.framework.trees import RandomTree
from unchained.node.chain.coin_proofs import CoinNotProvableError, CoinProofs
from unchained.node.consensus.coin_proof import (
    CoinProof,
    CoinProofError,
    CoinStanding,
    verify_coin_proof,
)
from unchained.node.consensus.params import REG, Network
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.memory import MemoryDisk, MemoryStore
from unchained.storage.schema import AnchorDisconnected

RETARGETING = msgspec.structs.replace(REG, tau_ms=200_000)


def expected(tip: Forged, coin_id: CoinId) -> str:
    """Return what the proof of a coin on the tip's chain says, or why there is none."""
    parent = tip.parent
    assert parent is not None
    if coin_id not in parent.positions:
        return "NOT_YET"
    if coin_id in parent.unspent:
        return "unspent"
    seen = [step.height for step in parent.chain() if coin_id in step.unspent]
    return f"spent, unspent after {max(seen)}" if seen else "NEVER_UNSPENT"


def said(found: CoinStanding) -> str:
    return f"spent, unspent after {found.unspent_height}" if found.spent else "unspent"


def check_all(
    proofs: CoinProofs, feeder: Feeder, tip: Forged, rng: random.Random
) -> list[tuple[bytes, str]]:
    """Prove every coin of the chain in random order; return the files and what they say."""
    files = []
    coins = list(tip.positions)
    rng.shuffle(coins)
    for coin_id in coins:
        wanted = expected(tip, coin_id)
        with feeder.core.store.snapshot() as store:
            if wanted in ("NOT_YET", "NEVER_UNSPENT"):
                with pytest.raises(CoinNotProvableError) as caught:
                    proofs.prove(store, coin_id)
                assert caught.value.word == wanted
                continue
            proof = proofs.prove(store, coin_id)
        assert proof is not None
        raw = proof.to_file()
        found = verify_coin_proof(CoinProof.from_file(raw), feeder.core.network, BACKEND)
        assert said(found) == wanted
        assert found.tip_id == tip.id
        assert found.state_height == tip.height - 1
        assert found.position == tip.positions[coin_id]
        assert tip.parent is not None
        assert found.positions == len(tip.parent.positions)
        assert found.coins == tip.coin.header.n_total
        assert found.pool == tip.parent.pool
        assert found.supply == sum(member.value for member in tip.parent.unspent.values())
        (made,) = [step for step in tip.chain() if step.height == found.height]
        assert found.anchor_id == made.id
        assert made.parent is not None
        assert coin_id in made.positions
        assert coin_id not in made.parent.positions
        member = made.unspent.get(coin_id)
        if member is not None:
            assert found.value == member.value
            assert (found.lock, found.minted) == (member.lock, member.minted)
        files.append((raw, said(found)))
    return files


@pytest.mark.parametrize("seed", range(8))
def test_every_coin_is_proven_as_the_chain_has_it(seed: int) -> None:
    rng = random.Random(seed)
    network = RETARGETING if seed % 4 == 3 else REG
    forge = Forge(network)
    tree = RandomTree(forge, rng, broken=0.0)
    tree.grow(25)
    made = {anchor.id: anchor for anchor in tree.anchors}
    feeder = Feeder(open_core(MemoryStore(MemoryDisk()), network, lambda: 0), forge.now_ms)
    proofs = CoinProofs(network)
    tips: list[Forged] = []
    words: set[str] = set()

    def between() -> None:
        tip = made[feeder.core.tip.id]
        if tip.height and (not tips or tips[-1] is not tip) and rng.random() < 0.3:
            tips.append(tip)
            words.update(word.split(",")[0] for _, word in check_all(proofs, feeder, tip, rng))

    order = as_made(tree, rng) if seed % 2 else nearly_as_made(tree, rng)
    feeder.submit_all(order, between)
    assert not feeder.errors
    events = [event for _, event in schema.EVENT.scan(feeder.core.store)]
    assert any(isinstance(event, AnchorDisconnected) for event in events)
    files = check_all(proofs, feeder, made[feeder.core.tip.id], rng)
    assert words | {word.split(",")[0] for _, word in files} >= {"unspent", "spent"}
    for raw, _ in rng.sample(files, min(3, len(files))):
        nothing_else_is_shown(raw, network, rng)


def nothing_else_is_shown(raw: bytes, network: Network, rng: random.Random) -> None:
    """Change bytes, cut off, go on, join: never anything but a refusal."""
    wrongs = [
        raw[:at] + bytes((raw[at] ^ 1 << rng.randrange(8),)) + raw[at + 1 :]
        for at in range(rng.randrange(7), len(raw), 7)
    ]
    wrongs += [raw[:at] for at in rng.sample(range(len(raw)), 20)]
    wrongs += [raw + b"\x00", raw + raw, b"", raw[:16] + rng.randbytes(200)]
    for wrong in wrongs:
        with pytest.raises(CoinProofError):
            verify_coin_proof(CoinProof.from_file(wrong), network, BACKEND)

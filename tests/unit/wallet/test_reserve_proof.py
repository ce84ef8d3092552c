"""Reserve proofs against known answers, and of a real wallet."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.framework.vectors import label, load, unhex
from tests.framework.wallets import BACKEND, ProvenWalletChain, Purse, cheap_wallet
from unchained.node.chain.coin_proofs import CoinProofs
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import ReserveProofError, WalletLockedError
from unchained.node.wallet.proofs import prove_reserve
from unchained.node.wallet.reserve_proof import ReserveProof
from unchained.storage.kv import Snapshot

RESERVE = load("wallet_proofs")["reserve"]
UNC = 10**8


class Prover:
    """Proves coins of a chain, as a node's link does."""

    def __init__(self) -> None:
        self._proofs = CoinProofs(REG)

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        return self._proofs.prove(view, coin_id)


class Scene:
    """A wallet with two accounts that mined and paid itself."""

    def __init__(self) -> None:
        self.chain = ProvenWalletChain(seed=5)
        self.purse = Purse(self.chain, cheap_wallet(accounts=2))
        self.wallet = self.purse.wallet
        self.chain.grow(4, self.purse.mine_to)
        self.purse.sync()
        self.purse.pay(self.wallet.paycode(1), UNC // 2)
        self.chain.grow(2, self.purse.mine_to)
        self.purse.sync()

    def prove(self, amount: int, message: bytes = b"hello") -> ReserveProof:
        with self.chain.snapshot() as view:
            return prove_reserve(self.wallet, view, Prover(), amount, message)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_known_answer() -> None:
    shown, raw = RESERVE["shown"], unhex(RESERVE["file"])
    proof = ReserveProof.from_file(raw)
    assert proof.to_file() == raw
    found = proof.verify(REG, BACKEND)
    assert {
        "message": found.message.hex(),
        "value": found.value,
        "coins": [coin.coin_id.hex() for coin in found.coins],
        "key_hashes": [key.hex() for key in found.key_hashes],
        "tip": found.tip_id.hex(),
        "tip_height": found.tip_height,
        "state_height": found.state_height,
    } == shown
    with pytest.raises(ReserveProofError, match="of network reg, expected local"):
        proof.verify(LOCAL, BACKEND)


@pytest.mark.parametrize("case", RESERVE["refused"], ids=label)
def test_refused(case: Any) -> None:
    with pytest.raises(ReserveProofError):
        ReserveProof.from_file(unhex(case["file"])).verify(REG, BACKEND)


def test_a_wallet_proves_what_it_holds(scene: Scene) -> None:
    on_chain = scene.purse.balance.on_chain
    # what the tip itself includes cannot be proven yet
    of_tip = sum(coin.value for coin in scene.wallet.store.coins() if coin.height == 6)
    found = scene.prove(on_chain - of_tip).verify(REG, BACKEND)
    assert found.value == on_chain - of_tip
    assert found.message == b"hello"
    assert set(found.key_hashes) == {scene.wallet.account(at).key_hash for at in (0, 1)}
    assert (found.tip_height, found.tip_id) == (6, scene.chain.core.tip.id)
    few = scene.prove(UNC).verify(REG, BACKEND)
    # the largest coin comes first: this one has a fee's share in it
    assert len(few.coins) == 1
    assert UNC < few.value < 2 * UNC
    with pytest.raises(ReserveProofError, match=f"expected {on_chain / UNC:g}"):
        scene.prove(on_chain)


def test_not_one_bit_can_be_changed(scene: Scene) -> None:
    raw = scene.prove(2 * UNC).to_file()
    rng = random.Random(4)
    for at in [*range(40), *(rng.randrange(len(raw)) for _ in range(200))]:
        wrong = bytearray(raw)
        wrong[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ReserveProofError):
            ReserveProof.from_file(bytes(wrong)).verify(REG, BACKEND)


def test_what_is_about_to_be_spent_is_no_reserve() -> None:
    scene = Scene()
    everything = sum(coin.value for coin in scene.wallet.store.reserves(6, 256))
    scene.purse.pay(cheap_wallet().paycode(), 3 * UNC)
    left = sum(coin.value for coin in scene.wallet.store.reserves(6, 256))
    assert left < everything
    scene.wallet.lock()
    with pytest.raises(WalletLockedError):
        scene.prove(1)
    with pytest.raises(ReserveProofError, match="at most"):
        scene.prove(1, bytes(1_025))

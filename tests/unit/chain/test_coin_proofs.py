"""Proofs of coins as the chain goes on: what they are made of, kept for, and refused for."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.corechain import Chain
from tests.framework.forge import BACKEND, Forged
from unchained.node.chain import coin_proofs
from unchained.node.chain.coin_proofs import CoinNotProvableError, CoinProofs
from unchained.node.consensus.coin_proof import CoinProof, CoinStanding, verify_coin_proof
from unchained.node.consensus.params import REG
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.errors import StoreCorruptError
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore

SHALLOW = msgspec.structs.replace(REG, max_reorg=4, window=3, epoch_ms=1)


class Scene:
    """A chain whose coins are proven by one `CoinProofs`."""

    def __init__(self, network: object = REG) -> None:
        self.chain = Chain(network)  # type: ignore[arg-type]
        self.proofs = CoinProofs(self.chain.forge.network)
        self.tip = self.chain.genesis

    def grow(self, count: int = 1) -> None:
        self.tip = self.chain.grow(self.tip, count)

    def include(self, *transfers: SizedTransfer) -> Forged:
        self.tip = self.chain.take(self.chain.forge.anchor(self.tip, transfers=transfers))
        return self.tip

    def spend(self, coin_id: CoinId) -> SizedTransfer:
        value = self.tip.unspent[coin_id].value
        return self.chain.pay(coin_id, value, to=0)

    def prove(self, coin_id: CoinId) -> CoinProof:
        with self.chain.core.store.snapshot() as store:
            found = self.proofs.prove(store, coin_id)
        assert found is not None
        return found

    def stands(self, coin_id: CoinId) -> CoinStanding:
        raw = self.prove(coin_id).to_file()
        found = verify_coin_proof(CoinProof.from_file(raw), self.chain.forge.network, BACKEND)
        assert found.tip_id == self.chain.core.tip.id
        return found

    def refused(self, coin_id: CoinId, word: str) -> str:
        with pytest.raises(CoinNotProvableError) as caught:
            self.prove(coin_id)
        assert caught.value.word == word
        assert "\n" not in str(caught.value)
        return str(caught.value)


def test_a_coin_is_proven_from_the_anchor_after_its_own_on() -> None:
    scene = Scene()
    scene.grow(2)
    assert "ask again after the next anchor" in scene.refused(scene.tip.id, "NOT_YET")
    coin = scene.tip.id
    scene.grow()
    found = scene.stands(coin)
    assert (found.spent, found.height, found.state_height) == (False, 2, 2)
    scene.grow(3)
    assert scene.stands(coin).state_height == 5


def test_what_the_tip_spends_is_unspent_until_the_next() -> None:
    scene = Scene()
    scene.grow(3)
    coin = scene.tip.id
    scene.include(scene.spend(coin))
    assert not scene.stands(coin).spent
    scene.grow()
    found = scene.stands(coin)
    assert (found.spent, found.unspent_height, found.state_height) == (True, 3, 4)
    scene.grow(4)
    assert scene.stands(coin).unspent_height == 3


def test_no_coin_that_the_chain_does_not_include() -> None:
    scene = Scene()
    with scene.chain.core.store.snapshot() as store:
        assert scene.proofs.prove(store, CoinId(bytes(32))) is None
    scene.grow(2)
    with scene.chain.core.store.snapshot() as store:
        assert scene.proofs.prove(store, CoinId(bytes(32))) is None


def test_a_coin_that_its_own_anchor_spends_was_never_unspent() -> None:
    scene = Scene()
    scene.grow(3)
    first = scene.spend(scene.tip.id)
    between = output_id(first.txid, 0)
    (output,) = first.transfer.outputs
    scene.include(first, scene.chain.pay(between, output.value, to=0))
    scene.refused(between, "NOT_YET")
    scene.grow()
    assert "no state ever showed it" in scene.refused(between, "NEVER_UNSPENT")


def test_a_reorganisation_is_another_tip() -> None:
    scene = Scene()
    scene.grow(3)
    fork, coin = scene.tip, scene.tip.id
    scene.include(scene.spend(coin))
    scene.grow()
    assert scene.stands(coin).spent
    other = scene.chain.forge.grow(fork, 4)
    scene.chain.take(*other.chain()[4:])
    assert scene.chain.core.tip.id == other.id
    assert not scene.stands(coin).spent


def test_states_are_made_once_for_each_tip(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.grow(3)
    coins = [step.id for step in scene.tip.chain()[1:]]
    scene.include(scene.spend(coins[0]))
    scene.include(scene.spend(coins[1]))
    scene.grow(2)
    undone: list[int] = []
    real = coin_proofs.undo_state

    def counted(*arguments: object) -> None:
        undone.append(1)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(coin_proofs, "undo_state", counted)
    scene.stands(coins[2])
    assert len(undone) == 1
    scene.stands(coins[0])
    scene.stands(coins[1])
    # back to the states before anchors 4 and 5
    assert len(undone) == 1 + 4 + 3
    for coin in coins:
        scene.stands(coin)
    assert len(undone) == 1 + 4 + 3
    scene.grow()
    scene.stands(coins[2])
    assert len(undone) == 1 + 4 + 3 + 1


def test_only_so_much_is_kept_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.grow(6)
    coins = [step.id for step in scene.tip.chain()[1:]]
    for coin in coins[:4]:
        scene.include(scene.spend(coin))
    scene.grow(2)
    monkeypatch.setattr(coin_proofs, "PROOF_STATES_MAX", 3)
    for coin in coins:
        scene.stands(coin)
        tip = scene.proofs._tip
        assert tip is not None
        assert len(tip._states) <= 3
        assert tip.height - 1 in tip._states
    monkeypatch.setattr(coin_proofs, "PROOF_UNDONE_SPENDS_MAX", 3)
    scene.grow()
    for coin in coins[1:]:
        scene.stands(coin)
        tip = scene.proofs._tip
        assert tip is not None
        assert sum(state.undone for state in tip._states.values()) <= 3
    assert "too many others were spent since" in scene.refused(coins[0], "STATE_GONE")
    assert scene.stands(coins[1]).spent


def test_a_state_that_is_not_kept_is_not_shown() -> None:
    scene = Scene(SHALLOW)
    scene.grow(3)
    kept, gone = scene.tip.id, scene.tip.chain()[1].id
    scene.include(scene.spend(gone))
    scene.grow(3)
    assert scene.stands(gone).spent
    scene.grow(12)
    assert "does not keep the state before it any more" in scene.refused(gone, "STATE_GONE")
    assert not scene.stands(kept).spent


def test_a_damaged_page_is_reported_and_not_remembered() -> None:
    scene = Scene()
    scene.grow(5)
    coin = scene.tip.chain()[2].id
    key = schema.STATE_PAGE.key(0, 0)
    store = MemoryStore(scene.chain.disk)
    page = store.get(key)
    assert page is not None
    for wrong in (None, page[:-1]):
        batch = Batch()
        batch.delete(key) if wrong is None else batch.put(key, wrong)
        store.write(batch, sync=True)
        with pytest.raises(StoreCorruptError):
            scene.prove(coin)
    batch = Batch()
    batch.put(key, page)
    store.write(batch, sync=True)
    assert not scene.stands(coin).spent

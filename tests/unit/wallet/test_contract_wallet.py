"""A contract as a wallet of its own: what it has, its history, its state in words, its signers."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.primitives.conditions import HashTimeLockCondition
from unchained.node.wallet.contract_wallet import (
    ContractWallet,
    contract_history,
    contract_wallet,
)
from unchained.node.wallet.contracts import Contract, hash_time_lock, multisig
from unchained.node.wallet.errors import ContractError, SigningError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.records import Payee
from unchained.node.wallet.unsigned import merge_files

UNC = 10**8


class Scene:
    """Some parties on one chain; the first one has coins."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.chain = WalletChain(seed=seed)
        self.parties = [Purse(self.chain, cheap_wallet(f"w{at}")) for at in range(count)]
        self.a = self.parties[0]
        self.chain.grow(3, self.a.mine_to)
        self.a.sync()

    def add(self, contract: Contract, preimage: bytes | None = None) -> bytes:
        for party in self.parties:
            party.wallet.add_contract(contract, 0)
        if preimage is not None:
            self.parties[1].wallet.store.put_preimage(contract.lock, preimage)
        return contract.lock

    def mine(self, count: int = 1) -> None:
        self.chain.grow(count)
        self.sync()

    def sync(self) -> None:
        for party in self.parties:
            party.sync()

    def look(self, lock: bytes, at: int = 0) -> ContractWallet:
        with self.chain.snapshot() as view:
            return contract_wallet(self.parties[at].wallet, view, lock)


def test_a_multisig_receives_and_is_spent() -> None:
    scene = Scene(3)
    contract = multisig(REG, 2, [party.wallet.address() for party in scene.parties])
    lock = scene.add(contract)
    assert scene.look(lock).status == "nothing has been paid to it yet"
    paid = scene.a.pay(contract.to_text(), UNC)
    scene.sync()
    found = scene.look(lock)
    assert (found.balance.pending, found.balance.confirmed) == (UNC, 0)
    assert found.status == "a payment of 1 UNC waits"
    scene.mine()
    found = scene.look(lock, 2)
    assert found.balance.confirmed == UNC
    assert found.status == "holds 1 UNC: 2 of 3 keys spend it, this wallet has 1"
    assert found.own_keys == (scene.parties[2].wallet.account().key_hash,)
    (came,) = contract_history(scene.parties[2].wallet, lock)
    assert (came.key, came.received, came.sent, came.height) == (paid.txid, UNC, 0, 4)

    prepared = scene.parties[1].wallet.spender.from_contract(
        contract, Fee(1), payees=[Payee(scene.parties[2].wallet.address(), UNC // 4, b"")]
    )
    signed = prepared.unsigned
    assert signed.missing() == 2
    for party in scene.parties[:2]:
        signed = party.wallet.sign(signed)
    assert signed.missing() == 0
    proven = signed.finish(REG)
    scene.chain.submit(proven.sized.raw)
    scene.sync()
    found = scene.look(lock)
    assert found.balance.leaving == UNC
    assert found.status.startswith("a transfer waits that takes 1 UNC: transfer ")
    waiting, came = contract_history(scene.a.wallet, lock)
    assert (waiting.key, waiting.height, waiting.sent) == (proven.sized.txid, None, UNC)
    scene.mine()
    left = UNC - UNC // 4 - proven.sized.transfer.fee
    assert scene.look(lock).balance.confirmed == left
    spent, came = contract_history(scene.a.wallet, lock)
    # what is left stays under the contract: one transfer takes and brings
    assert (spent.height, spent.sent, spent.received) == (5, UNC, left)
    anchors = [package.anchor for _, package in scene.chain.packages]
    assert [spent.time_ms, came.time_ms] == [
        anchors[entry.height - 1].header.time for entry in (spent, came) if entry.height
    ]
    with pytest.raises(ContractError):
        contract_history(scene.a.wallet, bytes(32))


def test_words_say_how_far_the_chain_was_read() -> None:
    scene = Scene(2)
    contract = multisig(REG, 2, [party.wallet.address() for party in scene.parties])
    scene.a.wallet.add_contract(contract, 0)
    scene.a.pay(contract.to_text(), UNC)
    scene.mine()
    scene.parties[1].wallet.add_contract(contract, 0)
    scene.parties[1].wallet.rescan()
    assert scene.look(contract.lock, 1).status == (
        "nothing has been paid to it yet, as far as the wallet has read the chain: up to height 0 "
        "of 4"
    )
    scene.sync()
    assert scene.look(contract.lock, 1).status.startswith("holds 1 UNC")


def test_a_frozen_coin_of_a_contract_stays_unless_it_is_named() -> None:
    scene = Scene(2)
    a, b = (party.wallet for party in scene.parties)
    made = hash_time_lock(REG, b.address(), a.address(), 30)
    lock = scene.add(made.contract, made.preimage)
    for _ in range(2):
        scene.a.pay(made.contract.to_text(), UNC // 2)
        scene.mine()
    frozen, free = (coin.coin_id for coin in b.store.coins_at(lock))
    b.store.freeze(frozen, frozen=True)
    assert [it.coin_id for it in b.claim(lock, Fee(1)).unsigned.inputs] == [free]
    named = b.claim(lock, Fee(1), coins=[frozen])
    assert [it.coin_id for it in named.unsigned.inputs] == [frozen]
    b.store.freeze(free, frozen=True)
    with pytest.raises(ContractError, match="frozen"):
        b.claim(lock, Fee(1))


def test_a_claimed_swap_in_words() -> None:
    scene = Scene(2)
    a, b = (party.wallet for party in scene.parties)
    made = hash_time_lock(REG, b.address(), a.address(), 30)
    lock = scene.add(made.contract, made.preimage)
    scene.a.pay(made.contract.to_text(), UNC // 2)
    scene.mine()
    assert scene.look(lock, 0).status == (
        "holds 0.5 UNC: the other side can claim it with the preimage, which is not known here; "
        "this wallet can take it back from height 30 on, 25 anchors from now"
    )
    assert scene.look(lock, 1).status.startswith(
        "holds 0.5 UNC: this wallet can claim it with the preimage, which is known; the other side"
    )
    claimed = scene.parties[1].send(b.claim(lock, Fee(1)))
    scene.sync()
    waits = f"a transfer waits that takes 0.5 UNC: claimed by {claimed.txid.hex()}"
    assert scene.look(lock, 0).status == waits
    scene.mine()
    assert scene.look(lock, 0).status == f"spent at height 5: claimed by {claimed.txid.hex()}"


def test_a_refunded_swap_in_words() -> None:
    scene = Scene(2)
    a, b = (party.wallet for party in scene.parties)
    made = hash_time_lock(REG, b.address(), a.address(), 6)
    lock = scene.add(made.contract)
    scene.a.pay(made.contract.to_text(), UNC // 2)
    scene.mine(2)
    assert scene.look(lock).status.endswith("this wallet can take it back now")
    back = scene.a.send(a.refund(lock, Fee(1)))
    scene.mine()
    assert scene.look(lock, 1).status == f"spent at height 6: taken back by {back.txid.hex()}"


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 4), (4, 4)])
def test_files_of_signers_merge_in_any_order(threshold: int, count: int) -> None:
    scene = Scene(count, seed=count)
    contract = multisig(REG, threshold, [party.wallet.address() for party in scene.parties])
    scene.add(contract)
    scene.a.pay(contract.to_text(), UNC)
    scene.mine()
    file = scene.a.wallet.spender.from_contract(contract, Fee(1)).unsigned.to_file()
    read = merge_files([file], REG)
    signers = scene.parties[:threshold]
    files = [party.wallet.sign(read).to_file() for party in signers]
    merged = {merge_files(order, REG).to_file() for order in itertools.permutations(files)}
    # some sign what others have signed already, some twice, and one file may hold several
    rng = random.Random(count)
    chain = read
    for party in rng.sample(signers, threshold):
        chain = party.wallet.sign(chain)
    for _ in range(8):
        some = [file, *rng.sample(files, rng.randrange(1, threshold + 1))]
        partly = merge_files(rng.sample(some, len(some)), REG)
        assert partly.missing() == threshold - (len(some) - 1)
        merged.add(merge_files([partly.to_file(), *files[::-1], file], REG).to_file())
    assert len(merged) == 1
    (whole,) = merged
    scene.chain.submit(merge_files([whole], REG).finish(REG).sized.raw)
    assert chain.missing() == 0
    other = scene.a.wallet.spender.from_contract(contract, Fee(2)).unsigned.to_file()
    with pytest.raises(SigningError, match="different transfers"):
        merge_files([whole, other], REG)
    with pytest.raises(SigningError, match="no file"):
        merge_files([], REG)


def test_a_preimage_that_is_learnt_is_known_for_every_contract_of_its_hash() -> None:
    """Bob is between two: what he learns where he pays opens what he is paid by."""
    scene = Scene(3)
    bob = scene.parties[1].wallet
    first = hash_time_lock(REG, scene.parties[1].wallet.address(), scene.a.wallet.address(), 60)
    terms = first.contract.terms
    assert isinstance(terms, HashTimeLockCondition)
    second = hash_time_lock(REG, scene.parties[2].wallet.address(), bob.address(), 50, terms.hash)
    bob.add_contract(first.contract, 0)
    bob.add_contract(second.contract, 1)
    bob._scanner._learn([first.preimage])
    assert [watched.preimage for watched in bob.contracts()] == [first.preimage] * 2
    third = hash_time_lock(REG, bob.address(), scene.a.wallet.address(), 70, terms.hash)
    bob.add_contract(third.contract, 2)
    assert bob.contract(third.contract.lock).preimage == first.preimage


def test_a_preimage_given_with_a_contract_is_known_of_those_before_it() -> None:
    scene = Scene(2)
    alice, bob = (party.wallet for party in scene.parties)
    first = hash_time_lock(REG, bob.address(), alice.address(), 60)
    digest = first.contract.preimage_hash
    second = hash_time_lock(REG, alice.address(), bob.address(), 50, digest)
    bob.add_contract(second.contract, 0)
    with pytest.raises(ContractError, match=r"^the preimage does not fit the contract's hash$"):
        bob.add_contract(first.contract, 1, preimage=bytes(32))
    assert [watched.preimage for watched in bob.contracts()] == [None]
    bob.add_contract(first.contract, 1, preimage=first.preimage)
    assert bob.contract(second.contract.lock).preimage == first.preimage

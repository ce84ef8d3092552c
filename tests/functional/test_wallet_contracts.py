"""Contracts between wallets of one node: who is first, and what it costs; in virtual time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.consensus.params import REG
from unchained.node.consensus.policy import DUST
from unchained.node.crypto.addresses import address_lock, decode_address
from unchained.node.primitives.transfer import Output, Transfer
from unchained.node.primitives.types import CoinId, Lock, Txid
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.rpc.methods.contracts import ContractRoom
from unchained.node.wallet.contract_spender import (
    REFUND_NEAR_ANCHORS,
    Race,
    Rivals,
    worth_contesting,
)
from unchained.node.wallet.contract_wallet import contract_wallet
from unchained.node.wallet.contracts import HashTimeLock, hash_time_lock
from unchained.node.wallet.errors import ContractError, HighFeeError, StoreDamagedError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.records import Origin, Outgoing, OutgoingState, Payee, WalletCoin
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


async def swap(node: WalletNode, refund_in: int) -> HashTimeLock:
    """Fund a hash-time-lock that bob claims, or alice takes back so many anchors from now."""
    for name in ("alice", "bob"):
        await node.wallets.create(name, "pass")
        await node.wallets.unlock(name, "pass", 86_400)
    await node.mine(3, "alice")
    parties = [node.wallets.wallet(name).address() for name in ("bob", "alice")]
    height = node.chain.status.value.height + refund_in
    made = hash_time_lock(REG, parties[0], parties[1], height)
    await node.wallets.add_contract("alice", made.contract)
    await node.wallets.add_contract("bob", made.contract, preimage=made.preimage)
    await node.wallets.send("alice", [Payee(made.contract.to_text(), UNC, b"")])
    await node.mine(1)
    return made


def _all_coins(wallet: Wallet, lock: bytes) -> Rivals:
    """Return all coins under a lock as contested."""
    return Rivals(coins=frozenset(coin.coin_id for coin in wallet.store.coins_at(lock)))


async def test_a_claim_says_how_near_the_refund_is(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, REFUND_NEAR_ANCHORS + 4)
        far = await node.wallets.call("bob", lambda bob: bob.claim(made.contract.lock, Fee()))
        assert far.warning == ""
        await node.mine(3)
        claimed = await node.wallets.claim("bob", made.contract.lock)
        assert "the refund is possible 7 anchors from now" in claimed.warning
        # what is claimed already is not claimed again, for more
        with pytest.raises(ContractError, match="no confirmed coins"):
            await node.wallets.claim("bob", made.contract.lock)


async def test_what_the_next_anchor_reaches_is_told_by_the_chain(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.mine(3, "a")
        node.wallets._open["a"].give_up(StoreDamagedError("its disk is full"))
        await node.mine(3)
        party = node.wallets.wallet("a").address()
        room = ContractRoom(node.wallets)
        with pytest.raises(ContractError, match="above 7, that of the next anchor, got 7"):
            await room.htlc_create(party, party, 7, "a")
        assert (await room.htlc_create(party, party, 8, "a")).lock


async def status(node: WalletNode, name: str, lock: bytes) -> str:
    """Return where a contract stands, as a wallet knows it that may read no more."""

    def work(wallet: Wallet) -> str:
        with node.wallets._link.snapshot() as view:
            return contract_wallet(wallet, view, lock).status

    return await node.wallets.call(name, work)


async def test_how_near_the_refund_is_is_told_by_the_chain(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, REFUND_NEAR_ANCHORS + 4)
        lock = made.contract.lock
        for name in ("alice", "bob"):
            node.wallets._open[name].give_up(StoreDamagedError("its disk is full"))
        await node.mine(3)
        claimed = await node.wallets.plan_claim("bob", lock)
        assert "the refund is possible 7 anchors from now" in claimed.warning
        await node.mine(6)
        with pytest.raises(ContractError, match=r"from height \d+ on, the next anchor"):
            await node.wallets.plan_refund("alice", lock)
        assert "back from height" in await status(node, "alice", lock)
        await node.mine(1)
        assert await node.wallets.plan_refund("alice", lock)
        assert "can take it back now" in await status(node, "alice", lock)
        with pytest.raises(StoreDamagedError, match="its disk is full"):
            await node.wallets.contract("alice", lock)


async def test_an_urgent_claim_pays_to_be_in_the_next_anchor(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 6)
        lock = made.contract.lock
        calm = await node.wallets.call("bob", lambda bob: bob.claim(lock, Fee()))
        urgency = Race(urgent_rate=7)
        urgent = await node.wallets.call("bob", lambda bob: bob.claim(lock, Fee(), race=urgency))
        assert urgent.unsigned.fee == 7 * calm.unsigned.fee
        exact = await node.wallets.call(
            "bob", lambda bob: bob.claim(lock, Fee(exact=9_000), race=urgency)
        )
        assert exact.unsigned.fee == 9_000


async def test_what_the_next_anchor_takes_is_asked_of_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crowded(link: WalletLink, target: int) -> int:
        return 11 if target == 1 else 3

    monkeypatch.setattr(WalletLink, "fee_rate", crowded)
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 6)
        cheap = await node.wallets.call("bob", lambda bob: bob.claim(made.contract.lock, Fee()))
        claimed = await node.wallets.claim("bob", made.contract.lock)
        assert claimed.fee == 11 * cheap.unsigned.fee


async def test_a_claim_replaces_a_refund_that_waits(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        lock = made.contract.lock
        refunded = await node.wallets.refund("alice", lock, Fee(rate=20, estimate=1))
        await node.settle()
        claimed = await node.wallets.claim("bob", lock)
        assert claimed.fee >= refunded.fee * 5 // 4
        assert "another transfer of these coins waits already" in claimed.warning
        await node.mine(1)
        held = await node.wallets.call("bob", lambda bob: bob.balance().confirmed)
        assert held == UNC - claimed.fee
        lost = await node.wallets.call("alice", lambda a: a.store.outgoing(refunded.txid))
        assert lost.state is OutgoingState.CONFLICT


async def bid_against(node: WalletNode, made: HashTimeLock, fee: Fee) -> Transfer:
    """Let alice take the refund in spite of bob's claim that waits, as a hostile wallet would."""
    lock = made.contract.lock
    rival = await node.wallets.call(
        "alice",
        lambda a: a.spender.from_contract(made.contract, fee, rivals=_all_coins(a, lock)),
    )
    proven = await node.wallets.call("alice", lambda a: a.finish(rival))
    assert await node.chain.submit_transfer(proven)
    return proven.sized.transfer


async def test_dust_for_the_claimer_does_not_keep_a_claim_from_being_bid_again(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        lock = made.contract.lock
        first = await node.wallets.claim("bob", lock)
        await node.settle()
        rival = await node.wallets.call(
            "alice",
            lambda a: a.spender.from_contract(
                made.contract, Fee(rate=4, allow_high=True), rivals=_all_coins(a, lock)
            ),
        )
        (taken,) = rival.unsigned.outputs
        to_bob = address_lock(decode_address(REG, node.wallets.wallet("bob").address()))
        unsigned = msgspec.structs.replace(
            rival.unsigned,
            outputs=(
                msgspec.structs.replace(taken, value=taken.value - DUST),
                Output(DUST, to_bob, b""),
            ),
            payees=(),
        )
        proven = await node.wallets.call(
            "alice", lambda a: a.finish(msgspec.structs.replace(rival, unsigned=unsigned))
        )
        assert await node.chain.submit_transfer(proven)
        await node.settle()
        again = await waiting_claim(node)
        assert again.replaces == first.txid
        assert again.fee > proven.sized.transfer.fee


def not_bid_again(node: WalletNode) -> list[str]:
    return [line for line in node.captured.lines if "wallet.not_bid_again" in line]


def _waiting(wallet: Wallet) -> list[Outgoing]:
    return wallet.store.waiting_outgoing()


async def waiting_claim(node: WalletNode) -> Outgoing:
    (found,) = await node.wallets.call("bob", _waiting)
    return found


async def test_a_claim_that_was_driven_out_is_bid_again_by_itself(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        first = await node.wallets.claim("bob", made.contract.lock)
        await node.settle()
        paid = [first.fee]
        for rate in (4, 16):
            rival = await bid_against(node, made, Fee(rate=rate, allow_high=True))
            await node.settle()
            again = await waiting_claim(node)
            assert again.fee > rival.fee > paid[-1]
            paid.append(again.fee)
        await node.mine(1)
        assert (await node.wallets.call("bob", lambda b: b.balance().confirmed)) == UNC - paid[-1]
        kept = await node.wallets.call("bob", lambda bob: bob.store.outgoing(first.txid))
        assert kept.state is OutgoingState.REPLACED


async def test_a_claim_of_other_coins_replaces_nothing(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 3)
        lock = made.contract.lock
        await node.wallets.send("alice", [Payee(made.contract.to_text(), UNC // 2, b"")])
        await node.mine(1)
        one, other = [
            coin.coin_id
            for coin in await node.wallets.call("bob", lambda bob: bob.store.coins_at(lock))
        ]
        first = await node.wallets.claim("bob", lock, coins=[one])
        await node.settle()
        node.wallets.lock("bob")
        calm = await node.wallets.plan_claim("bob", lock, coins=[other])
        rival = await node.wallets.call(
            "alice",
            lambda a: a.finish(
                a.spender.from_contract(
                    made.contract,
                    Fee(rate=20, allow_high=True),
                    named=[one],
                    rivals=_all_coins(a, lock),
                )
            ),
        )
        assert await node.chain.submit_transfer(rival)
        await node.settle()
        planned = await node.wallets.plan_claim("bob", lock, coins=[other])
        assert (planned.replaces, planned.unsigned.fee) == (b"", calm.unsigned.fee)
        assert "waits already" not in planned.warning
        planned = await node.wallets.plan_claim("bob", lock, coins=[one])
        assert planned.replaces == first.txid
        assert planned.unsigned.fee > rival.sized.transfer.fee
        assert "waits already" in planned.warning


async def take_back(node: WalletNode, made: HashTimeLock, coin: bytes, fee: Fee) -> Transfer:
    """Let alice take one coin back, in spite of all who may spend it."""
    rival = await node.wallets.call(
        "alice",
        lambda a: a.finish(
            a.spender.from_contract(
                made.contract, fee, named=[coin], rivals=_all_coins(a, made.contract.lock)
            )
        ),
    )
    assert await node.chain.submit_transfer(rival)
    await node.settle()
    return rival.sized.transfer


async def test_who_spends_a_small_coin_for_a_high_fee_keeps_nobody_from_the_others(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 3)
        lock = made.contract.lock
        dust = UNC // 4
        await node.wallets.send("alice", [Payee(made.contract.to_text(), dust, b"")])
        await node.mine(2)
        coins = await node.wallets.call("bob", lambda bob: bob.store.coins_at(lock))
        large, small = sorted(coins, key=lambda coin: -coin.value)
        calm = await node.wallets.plan_claim("bob", lock, coins=[large.coin_id])
        # more than it is worth to outbid, and what no claim may pay
        await take_back(node, made, small.coin_id, Fee(exact=dust - 10_000, allow_high=True))
        planned = await node.wallets.plan_claim("bob", lock)
        assert [spent.coin_id for spent in planned.unsigned.inputs] == [large.coin_id]
        assert planned.unsigned.fee == calm.unsigned.fee
        assert "waits already" not in planned.warning
        # who spends a coin that is worth it is outbid, and he alone
        rival = await take_back(node, made, large.coin_id, Fee(rate=20, allow_high=True))
        planned = await node.wallets.plan_claim("bob", lock)
        assert [spent.coin_id for spent in planned.unsigned.inputs] == [large.coin_id]
        assert rival.fee < planned.unsigned.fee < 2 * rival.fee
        assert "waits already" in planned.warning
        claimed = await node.wallets.claim("bob", lock)
        await node.mine(1)
        held = await node.wallets.call("bob", lambda bob: bob.balance().confirmed)
        assert held == UNC - claimed.fee


def contested(coin: str, value: int) -> WalletCoin:
    return WalletCoin(
        CoinId(coin.encode()), -1, Origin.ADDRESS, value, Lock(b""), b"", 0, 1, 0, None, b"",
        False, True, b"", b"", b"",
    )  # fmt: skip


def test_of_coins_that_others_spend_those_are_contested_that_bring_most() -> None:
    coins = [contested(name, value) for name, value in (("a", 100), ("b", 30), ("c", 10))]
    fees = {"a": 9, "b": 8, "c": 7}

    def chosen(refused: str, costs: Mapping[str, float] = fees, free: str = "") -> str:
        spends = tuple(
            (coin.coin_id, Txid(coin.coin_id))
            for coin in coins
            if coin.coin_id.decode() not in free
        )

        def fee_of(some: Sequence[WalletCoin]) -> float:
            names = [coin.coin_id.decode() for coin in some]
            if any(name in refused for name in names):
                return math.inf
            return sum(costs[name] for name in names)

        found = worth_contesting(coins, Rivals(spends=spends), fee_of)
        return "".join(coin.coin_id.decode() for coin in found)

    assert chosen("") == "abc"
    assert chosen("c") == "ab"
    # those that bring less are not left alone for the one whose fee must not be paid
    assert chosen("a") == "bc"
    assert chosen("b") == "ac"
    assert chosen("ab") == "c"
    assert chosen("ab", free="c") == "c"
    assert chosen("", {"a": 9, "b": 31, "c": 7}) == "ac"
    # where none is to be had, what is asked for says why
    assert chosen("abc") == "abc"


@pytest.mark.parametrize("fee", [UNC * 65 // 10_000, UNC // 20, UNC // 8])
async def test_a_small_coin_whose_claim_looks_like_a_mistake_keeps_nobody_from_the_others(
    fee: int, tmp_path: Path
) -> None:
    """The fee is worth the coin, and no claim may pay it."""
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 3)
        lock = made.contract.lock
        await node.wallets.send("alice", [Payee(made.contract.to_text(), UNC // 4, b"")])
        await node.mine(2)
        coins = await node.wallets.call("bob", lambda bob: bob.store.coins_at(lock))
        large, small = sorted(coins, key=lambda coin: -coin.value)
        first = await node.wallets.claim("bob", lock)
        await node.settle()
        await take_back(node, made, small.coin_id, Fee(exact=fee, allow_high=True))
        again = await waiting_claim(node)
        assert again.replaces == first.txid
        spent = [it.coin_id for it in Transfer.from_bytes(again.raw).inputs]
        assert spent == [large.coin_id]
        assert not_bid_again(node) == []
        await node.mine(1)
        held = await node.wallets.call("bob", lambda bob: bob.balance().confirmed)
        assert held == UNC - again.fee


async def test_what_keeps_a_claim_from_being_bid_again_is_said_once(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        first = await node.wallets.claim("bob", made.contract.lock)
        await node.settle()
        node.wallets.lock("bob")
        await bid_against(node, made, Fee(rate=4, allow_high=True))
        await node.settle()
        assert (await waiting_claim(node)).txid == first.txid
        await node.wallets.call("bob", lambda bob: bob.balance())
        await node.wallets.rescan("bob")
        await node.settle()
        (line,) = not_bid_again(node)
        assert f"wallet='bob' txid='{first.txid.hex()}'" in line
        assert "locked" in line
        # in time it is still won
        await node.wallets.unlock("bob", "pass", 60)
        await node.settle()
        assert (await waiting_claim(node)).replaces == first.txid


async def test_a_bid_ends_where_the_fee_looks_like_a_mistake(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        first = await node.wallets.claim("bob", made.contract.lock)
        await node.settle()
        await bid_against(node, made, Fee(exact=UNC // 8, allow_high=True))
        await node.settle()
        assert (await waiting_claim(node)).txid == first.txid
        (line,) = not_bid_again(node)
        assert "allow_high_fee" in line


async def test_copies_of_a_wallet_do_not_bid_against_each_other(tmp_path: Path) -> None:
    async with wallet_node(tmp_path / "wallets").running() as node:
        made = await swap(node, 2)
        lock = made.contract.lock
        await node.wallets.backup("bob", tmp_path / "copy")
        await node.wallets.restore_backup(tmp_path / "copy", "pass", "copy")
        await node.wallets.unlock("copy", "pass", 86_400)
        await node.wallets.claim("bob", lock)
        await node.settle()
        other = await node.wallets.claim("copy", lock)
        await node.settle()
        assert (await node.wallets.call("copy", lambda w: w.store.unheard())) == []
        assert [o.txid for o in await node.wallets.call("copy", _waiting)] == [other.txid]
        assert not_bid_again(node) == []


async def test_no_claim_pays_what_looks_like_a_mistake(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        lock = made.contract.lock
        bid = Fee(exact=UNC // 8, allow_high=True)
        refunded = await node.wallets.refund("alice", lock, bid)
        await node.settle()
        with pytest.raises(HighFeeError):
            await node.wallets.claim("bob", lock)
        claimed = await node.wallets.claim("bob", lock, Fee(allow_high=True))
        assert claimed.fee > refunded.fee

"""Contracts between wallets of one node: who is first, and what it costs; in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.consensus.params import REG
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.wallet.contract_spender import REFUND_NEAR_ANCHORS, Rivals
from unchained.node.wallet.contracts import HashTimeLock, hash_time_lock
from unchained.node.wallet.errors import ContractError, HighFeeError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.records import OutgoingState, Payee
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


async def test_an_urgent_claim_pays_to_be_in_the_next_anchor(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 6)
        lock = made.contract.lock
        calm = await node.wallets.call("bob", lambda bob: bob.claim(lock, Fee()))
        urgent = await node.wallets.call("bob", lambda bob: bob.claim(lock, Fee(), urgent_rate=7))
        assert urgent.unsigned.fee == 7 * calm.unsigned.fee
        exact = await node.wallets.call(
            "bob", lambda bob: bob.claim(lock, Fee(exact=9_000), urgent_rate=7)
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


async def test_a_claim_that_was_driven_out_comes_back(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made = await swap(node, 2)
        lock = made.contract.lock
        first = await node.wallets.claim("bob", lock)
        await node.settle()

        # alice's wallet sees the claim, and bids against it as a hostile one would
        rivals = await node.wallets.call(
            "alice",
            lambda a: a.spender.from_contract(
                made.contract, Fee(rate=4, allow_high=True), rivals=_all_coins(a, lock)
            ),
        )
        proven = await node.wallets.call("alice", lambda a: a.finish(rivals))
        assert await node.chain.submit_transfer(proven)
        await node.settle()
        second = await node.wallets.claim("bob", lock)
        assert second.fee > proven.sized.transfer.fee > first.fee
        assert second.replaces == first.txid
        await node.mine(1)
        assert (await node.wallets.call("bob", lambda bob: bob.balance().confirmed)) > 0
        kept = await node.wallets.call("bob", lambda bob: bob.store.outgoing(first.txid))
        assert kept.state is OutgoingState.REPLACED


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

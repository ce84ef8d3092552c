"""What a wallet sends again goes the way of what is made here: handed on, not gossiped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
import trio

from tests.framework.simulation.simnet import EPOCH_S, SimNode, SimPayout, simulate
from tests.framework.wallets import CHEAP
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.consensus.genesis import genesis_of
from unchained.node.mining.epoch_manager import Payout
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.transport.contract import PeerId
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.records import Payee
from unchained.node.wallet.wallet_follower import REBROADCAST_S
from unchained.node.wire.limits import name_of
from unchained.node.wire.messages import STEM_EXCHANGE

UNC = 10**8


async def wallets_of(node: SimNode, folder: Path) -> WalletManager:
    """Run wallets on a node, linked as those of a whole node are."""
    net = node.net
    assert net.nursery is not None
    clock = TrioClock(net.start_ms + int(trio.current_time() * 1000))
    wallets = WalletManager(
        folder,
        WalletLink(node.chain, node.store, node.network.stem, clock=clock, runner=InlineRunner()),
        clock=clock,
        runner=InlineRunner(),
        log=structlog.get_logger(),
        cost=CHEAP,
    )
    await net.nursery.start(lambda task_status: wallets.run(task_status=task_status))
    return wallets


class WalletPayout:
    """Pays a wallet, once there is one."""

    inner: Payout = SimPayout("nobody")

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        return self.inner.lock_for(parent, time_ms)


def note_handed(node: SimNode, handed: list[tuple[PeerId, bytes]]) -> None:
    """Note who hands what on to a node."""
    served = node.transport.switchboard.served[name_of(genesis_of(node.net.params).id, "stem")]
    inner = served.handler

    async def handler(peer: PeerId, payload: bytes) -> bytes:
        request: Any = STEM_EXCHANGE.decode_request(payload)
        handed.append((peer, request.transfer))
        return await inner(peer, payload)

    served.handler = handler


async def test_what_was_not_heard_is_handed_on_again(tmp_path: Path) -> None:
    async with simulate(51) as net:
        nodes = await net.grow(3, miners=1)
        maker = net.node(name="maker", share=1.0)
        maker.bootstrap = tuple(node.transport.address for node in nodes)
        maker.payout = payout = WalletPayout()
        await maker.start()
        await net.mingle([*nodes, maker], 3)
        wallets = await wallets_of(maker, tmp_path)
        await wallets.create("a", "pass")
        await wallets.unlock("a", "pass", 86_400)
        wallet = wallets.wallet("a")
        payout.inner = wallet.payout()

        def has_coins() -> bool:
            return wallet.balance().confirmed > UNC

        await net.until(has_coins, "paid", 100 * EPOCH_S)
        handed: list[tuple[PeerId, bytes]] = []
        for node in nodes:
            note_handed(node, handed)
        prepared = wallet.spender.pay([Payee(wallet.paycode(), UNC // 2, b"")], Fee(1))
        # Noted, but the node went down before it was sent.
        kept = wallet.record(wallet.finish(prepared), 0, change=prepared.change)
        raw = wallet.store.outgoing(kept.txid).raw
        await net.until(lambda: wallets.statistics().rebroadcast > 0, "again", 2 * REBROADCAST_S)
        await net.until(lambda: len(handed) > 0, "handed on", 5, step_s=0.01)
        assert handed[0] == (maker.id, raw)
        await net.until(
            lambda: wallet.store.outgoing(kept.txid).height is not None, "included", 20 * EPOCH_S
        )

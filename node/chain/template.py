"""What a miner may work on: the next anchor's body and all of its header but lock, time, nonce."""

from __future__ import annotations

import msgspec

from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.coins import COIN_VERSION
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.mints import CoinKind, Mint
from unchained.node.consensus.transition import body_root
from unchained.node.consensus.uncles import check_uncle
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId, Lock


class Template(msgspec.Struct, frozen=True):
    """A body for the child of `parent`, and the fixed part of the header that commits to it.

    `parent_time` in ms: a coin's time must exceed it. `late` and `stray` count the uncles;
    `fees` in grains.
    """

    parent: CoinId
    height: int
    n_total: int
    target: int
    chain_id: int
    parent_time: int
    body: Body
    body_root: bytes
    late: int
    stray: int
    fees: int

    def header(self, *, lock: Lock, time: int, nonce: int = 0) -> CoinHeader:
        """Return the header of a coin on this template. `time` in ms."""
        return CoinHeader(
            self.chain_id,
            COIN_VERSION,
            self.parent,
            self.height,
            time,
            self.n_total,
            self.target,
            lock,
            self.body_root,
            nonce,
        )


def build_template(core: ChainCore) -> Template:
    """Return the fullest body that the tip's child may have (Protocol §5.5)."""
    tip = core.tip
    network = core.network
    context = tip.context
    fresh = sorted(list(tip.bound)[: network.max_listed])
    uncles = _eligible_uncles(core, tip)
    # Those that mint most first where there are more than fit; a stray's parent never goes before
    # the stray, since it is late or fresh, or a stray of a lower height.
    uncles.sort(key=lambda mint: (-mint.value, mint.coin.height, mint.coin.id))
    uncles = uncles[: network.max_listed]
    wids = core.mempool.select(network.max_body_size)
    body = Body(
        tuple(fresh),
        tuple(sorted(mint.coin.id for mint in uncles)),
        tuple(wids),
        core.ledger.state_root(),
        core.ledger.history.root(),
    )
    entries = [core.mempool.get(wid) for wid in wids]
    return Template(
        parent=tip.id,
        height=tip.height + 1,
        n_total=context.child_n_total,
        target=context.child_target,
        chain_id=network.chain_id,
        parent_time=context.time,
        body=body,
        body_root=body_root(body),
        late=sum(mint.kind is CoinKind.LATE for mint in uncles),
        stray=sum(mint.kind is CoinKind.STRAY for mint in uncles),
        fees=sum(entry.fee for entry in entries if entry is not None),
    )


def _eligible_uncles(core: ChainCore, tip: AnchorNode) -> list[Mint]:
    """Check every known coin that the next anchor could list as late or stray, as a peer will."""
    network = core.network
    branch = core.branch_of(tip)
    lowest = max(core.tree.root.height, tip.height - network.window)
    found: list[Mint] = []
    listed: dict[CoinId, Coin] = {}
    homes = [core.tree.main_at(height) for height in range(lowest, tip.height)]
    # Lowest first: a stray's parent is checked, and listed, before the stray.
    sides = sorted(core.tree.side_nodes(lowest - 1), key=lambda node: node.height)
    for home in (*homes, *sides):
        for coin_id in home.bound if home is not None else ():
            if core.tree.lister_of(coin_id, tip) is not None:
                continue
            coin = core.archive.coin(coin_id)
            assert coin is not None, "what is bound is stored"
            try:
                mint = check_uncle(
                    coin, tip.height + 1, tip.context.child_target, listed, branch, network
                )
            except ProtocolError:
                continue  # not eligible: the rule is the filter
            found.append(mint)
            listed[coin.id] = coin
    return found

"""What a miner may work on: the next anchor's body and all of its header but lock, time, nonce."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool.job_transfers import ListedTransfer
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus.coins import COIN_VERSION
from unchained.node.consensus.context import BranchView
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.mints import CoinKind, Mint, pool_share
from unchained.node.consensus.transition import body_root
from unchained.node.consensus.uncles import check_uncle
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId, Lock

PARENTS_REMEMBERED: Final = 64
"""Parents for which the time of the last job is kept."""


class Template(msgspec.Struct, frozen=True):
    """A body for the child of `parent`, and the fixed part of the header that commits to it.

    `parent_time` and `least_time` in ms: a coin's time must exceed the one and is at least the
    other, so that nothing that the body lists is too new for an anchor. `late` and `stray` count
    the uncles; `fees` and `value` in grains, what an anchor on it mints for itself. As long as a
    template lives, so do the bytes of its transfers, `listed`.
    """

    parent: CoinId
    height: int
    n_total: int
    target: int
    chain_id: int
    parent_time: int
    least_time: int
    body: Body
    body_root: bytes
    late: int
    stray: int
    fees: int
    value: int
    listed: tuple[ListedTransfer, ...]

    def header(self, *, lock: Lock, time: int, nonce: int = 0) -> CoinHeader:
        """Return the header of a coin on this template. `time` in ms, at least `least_time`."""
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


class JobTimes:
    """Gives each job of a miner a time of its own, and so a lock of its own (Protocol §9)."""

    def __init__(self) -> None:
        self._last: OrderedDict[CoinId, int] = OrderedDict()

    def take(self, template: Template, now_ms: int) -> int:
        """Return the time of the next job on a template, ms."""
        # Protocol §3.1: a miner's time is max(its clock, parent's + 1, 1 more than its last job's
        # on that parent), taken anew for each template
        last = self._last.pop(template.parent, 0)
        time_ms = max(now_ms, template.least_time, last + 1)
        self._last[template.parent] = time_ms
        if len(self._last) > PARENTS_REMEMBERED:
            self._last.popitem(last=False)
        return time_ms


def build_template(core: ChainCore, now_ms: int) -> Template:
    """Return the fullest body that the tip's child may have whose time is the present or the first
    after its parent's (Protocol §5.5)."""
    tip = core.tip
    network = core.network
    context = tip.context
    # Protocol §5.5: of both those at most FUTURE_LIMIT above the anchor's own time
    time_ms = max(now_ms, context.time + 1)
    latest = time_ms + network.future_limit_ms
    candidates = [coin for coin in _coins(core, tip.bound) if coin.header.time <= latest]
    fresh = candidates[: network.max_listed]
    uncles = _most_worth(
        _eligible_uncles(core, tip, time_ms), core.branch_of(tip), network.max_listed
    )
    wids = core.mempool.select(network.max_body_size)
    body = Body(
        tuple(sorted(coin.id for coin in fresh)),
        tuple(sorted(mint.coin.id for mint in uncles)),
        tuple(wids),
        core.ledger.state_root(),
        core.ledger.history.root(),
    )
    entries = [core.mempool.get(wid) for wid in wids]
    fees = sum(entry.fee for entry in entries if entry is not None)
    newest = max(
        (coin.header.time for coin in (*fresh, *(mint.coin for mint in uncles))), default=0
    )
    return Template(
        parent=tip.id,
        height=tip.height + 1,
        n_total=context.child_n_total,
        target=context.child_target,
        chain_id=network.chain_id,
        parent_time=context.time,
        least_time=max(context.time + 1, newest - network.future_limit_ms),
        body=body,
        body_root=body_root(body),
        late=sum(mint.kind is CoinKind.LATE for mint in uncles),
        stray=sum(mint.kind is CoinKind.STRAY for mint in uncles),
        fees=fees,
        value=network.subsidy + pool_share(core.ledger.pool + fees),
        listed=core.hold_listed(body),
    )


def _coins(core: ChainCore, ids: Iterable[CoinId]) -> Iterator[Coin]:
    for coin_id in ids:
        coin = core.archive.coin(coin_id)
        assert coin is not None, "what is bound is stored"
        yield coin


def _eligible_uncles(core: ChainCore, tip: AnchorNode, time_ms: int) -> list[Mint]:
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
        bound = () if home is None else home.bound
        for coin in _coins(core, (i for i in bound if core.tree.lister_of(i, tip) is None)):
            try:
                mint = check_uncle(
                    coin,
                    tip.height + 1,
                    time_ms,
                    tip.context.child_target,
                    listed,
                    branch,
                    network,
                )
            except ProtocolError:
                continue  # not eligible: the rule is the filter
            found.append(mint)
            listed[coin.id] = coin
    return found


def _most_worth(uncles: Sequence[Mint], branch: BranchView, most: int) -> list[Mint]:
    """Return the uncles that mint most where there are more than fit, and no stray whose parent is
    not among them: a very late parent mints less than the stray."""
    ranked = sorted(uncles, key=lambda mint: (-mint.value, mint.coin.height, mint.coin.id))[:most]
    kept = {mint.coin.id: mint for mint in ranked}
    # Lowest first: what goes may be the parent of a higher one.
    for mint in sorted(ranked, key=lambda mint: mint.coin.height):
        parent = mint.coin.parent
        if mint.kind is CoinKind.STRAY and parent not in kept and branch.included(parent) is None:
            del kept[mint.coin.id]
    return list(kept.values())

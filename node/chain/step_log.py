"""What a step of the chain says in the log: the story of each anchor, coin and transfer.

Each line names what it is about as `id`, so that `unchained-node logs --anchor`, `--coin` and
`--transfer` find it. In bulk a line for each would push all else out of the log: the anchors that
are connected say enough.
"""

from __future__ import annotations

from functools import partial

from structlog.typing import FilteringBoundLogger

from unchained.node.chain.mempool.mempool import Reason
from unchained.node.chain.results import Changes
from unchained.node.chain.transfer_memory import TransferMemory
from unchained.node.consensus.errors import ProtocolError
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage.schema import TransferEntered, TransferLeft


def log_step(
    log: FilteringBoundLogger, step: Changes, transfers: TransferMemory, *, in_bulk: bool
) -> None:
    """Log what happened; `transfers` tells the txid of one that came not long ago."""
    for height, anchor_id in step.disconnected:
        log.info("anchor.disconnected", height=height, id=anchor_id.hex())
    for anchor in step.connected[-1:] if in_bulk else step.connected:
        log.info(
            "anchor.connected",
            height=anchor.coin.height,
            id=anchor.coin.id.hex(),
            fresh=anchor.fresh,
            late=anchor.late,
            stray=anchor.stray,
            transfers=anchor.transfers,
        )
    if not in_bulk:
        _log_details(log, step, transfers)
    for anchor_id, error in step.dead:
        log.warning("anchor.dead", **_broken(anchor_id, error))
    for anchor_id, error in step.ruled_out:
        log.warning("anchor.invalid", **_broken(anchor_id, error))
    for anchor_id, is_aside in step.aside:
        if is_aside:
            log.warning("anchor.set_aside", id=anchor_id.hex())
        else:
            log.warning("anchor.taken_back", id=anchor_id.hex())
    if step.refused is not None:
        log.error(
            "chain.reorg_refused",
            fork_height=step.refused.fork_height,
            depth=step.refused.depth,
            winner=step.refused.winner.hex(),
        )


def _log_details(log: FilteringBoundLogger, step: Changes, transfers: TransferMemory) -> None:
    for coin in step.coins:
        log.debug("coin.accepted", height=coin.height, id=coin.id, parent=coin.parent)
    for coin in [counted.coin for counted in step.counted]:
        log.debug("anchor.counted", height=coin.height, id=coin.id, parent=coin.parent)
    for event in step.events:
        if not isinstance(event, TransferEntered | TransferLeft):
            continue
        txid = partial(_txid, transfers, event.wid)
        if isinstance(event, TransferEntered):
            log.debug("transfer.entered", id=event.wid, txid=txid)
        else:
            reason = Reason(event.reason).name.lower()
            log.debug("transfer.left", id=event.wid, txid=txid, reason=reason)


def _txid(transfers: TransferMemory, wid: bytes) -> bytes | None:
    proven = transfers.proven(Wid(wid))
    return None if proven is None else proven.sized.txid


def _broken(anchor_id: CoinId, error: ProtocolError) -> dict[str, str]:
    return {"id": anchor_id.hex(), "rule": error.name, "why": str(error)}

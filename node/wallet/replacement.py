"""What a transfer that replaces a waiting one has to pay, what goes with the one replaced, and
which one stands in its place."""

from __future__ import annotations

from collections.abc import Sequence

from unchained.node.consensus.policy import replacement_fee
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.transfer import Transfer, output_id
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import DAMAGED_HINT, BadPaymentError, StoreDamagedError
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import Outgoing, OutgoingState
from unchained.node.wallet.unsigned import size_bound
from unchained.node.wallet.wallet_store import WalletStore


def check_replaces(old: Outgoing, family: Sequence[Outgoing], prepared: Prepared) -> None:
    """Raise `BadPaymentError` for a fee that no node would replace a transfer for, which the rest
    of its `family` builds on (Protocol §8.4)."""
    least = _least(old, family, prepared)
    if prepared.unsigned.fee < least:
        raise BadPaymentError(
            f"a fee of {shortest(prepared.unsigned.fee)} UNC does not replace one of "
            f"{shortest(old.fee)}: it takes {shortest(least)}, a rate of "
            f"{rate_that_replaces(old, family, prepared)} grains per byte"
        )


def rate_that_replaces(old: Outgoing, family: Sequence[Outgoing], prepared: Prepared) -> int:
    """Return the lowest rate, in grains per byte of size, at which a transfer of the size of
    `prepared` replaces another and its `family`."""
    return -(-_least(old, family, prepared) // size_bound(prepared.unsigned, 1))


def _least(old: Outgoing, family: Sequence[Outgoing], prepared: Prepared) -> int:
    return replacement_fee(size_bound(prepared.unsigned, 1), (old,), family)


def standing(store: WalletStore, txid: bytes) -> Outgoing:
    """Return a transfer of the wallet, or the one that stands in its place since it was replaced.
    Raises `NoSuchTransferError`, `StoreDamagedError`."""
    found = store.outgoing(txid)
    passed: set[bytes] = set()
    while found.state is OutgoingState.REPLACED and found.height is None:
        rows = store.rows(
            "SELECT txid FROM outgoing WHERE replaces = ? ORDER BY created_ms DESC", found.txid
        )
        if not rows:
            break
        passed.add(found.txid)
        if rows[0][0] in passed:
            # no transfer pays more than itself: only an altered file says so
            raise StoreDamagedError(
                f"transfers replace one another in a circle, such as {txid.hex()}: {DAMAGED_HINT}"
            )
        found = store.outgoing(rows[0][0])
    return found


def with_descendants(store: WalletStore, old: Outgoing) -> list[Outgoing]:
    """Return a waiting transfer of the wallet and those that build on it."""
    family = [old]
    made = set(_output_ids(old))
    for step in store.waiting_outgoing():
        spent = {entry.coin_id for entry in Transfer.from_bytes(step.raw).inputs}
        if step.txid != old.txid and spent & made:
            family.append(step)
            made.update(_output_ids(step))
    return family


def _output_ids(transfer: Outgoing) -> list[CoinId]:
    count = len(Transfer.from_bytes(transfer.raw).outputs)
    return [output_id(transfer.txid, index) for index in range(count)]

"""Whether a wallet has paid an invoice already: a payment URI that is opened twice asks twice."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import NO_TAG, PayeeError, decode_paycode
from unchained.node.primitives.amounts import shortest
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import OutgoingState
from unchained.node.wallet.wallet_store import WalletStore

LOOKED_AT: Final = 1_000
"""The wallet's latest transfers among which an earlier payment is looked for."""


def told_if_paid(store: WalletStore, network: Network, prepared: Prepared) -> Prepared:
    """Return a transfer with the warning that the wallet has paid one of its payees before, where
    that one is paid once as a rule: a paycode that was made for one purpose (Protocol §9). A
    transfer that takes the place of another pays nobody twice."""
    payees = {paid.payee for paid in prepared.payees if _is_for_one_purpose(network, paid.payee)}
    if not payees or prepared.replaces:
        return prepared
    told = "; ".join(text for text in (prepared.warning, _paid_before(store, payees)) if text)
    return msgspec.structs.replace(prepared, warning=told)


def _is_for_one_purpose(network: Network, payee: str) -> bool:
    try:
        return decode_paycode(network, payee).tag != NO_TAG
    except PayeeError:
        return False


def _paid_before(store: WalletStore, payees: Collection[str]) -> str:
    """Return in words when and what some payees were paid last, empty if they never were."""
    rows = store.rows(
        """SELECT txid FROM outgoing WHERE height IS NOT NULL OR state = ?
           ORDER BY created_ms DESC LIMIT ?""",
        OutgoingState.WAITING,
        LOOKED_AT,
    )
    for (txid,) in rows:
        known = store.outgoing(txid)
        for paid in known.payees:
            if paid.payee in payees:
                when = datetime.fromtimestamp(known.created_ms / 1000, UTC)
                return (
                    f"this wallet has paid {shortest(paid.value)} UNC to that paycode already, at "
                    f"{when:%Y-%m-%d %H:%M} UTC: it was made for one payment"
                )
    return ""

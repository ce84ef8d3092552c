"""The facts of the wallet's pages, by the wallet's own methods, for who has logged in to it.

What is sent is what was shown: the confirmation holds the whole transfer, unsigned, and that file
alone is signed and sent.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import trio

from unchained.node.rpc.client.history_csv import HistoryCsv
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.web.reads import PageReads
from unchained.node.rpc.web.views import Facts

METHODS: Final = frozenset(
    {
        "wallet.address",
        "wallet.balance",
        "wallet.broadcast",
        "wallet.history",
        "wallet.info",
        "wallet.list",
        "wallet.lock",
        "wallet.prepare",
        "wallet.sign",
        "wallet.unlock",
    }
)
"""All that these pages call; no other method is open to them."""

HISTORY_SHOWN: Final = 50
ROWS_AT_ONCE: Final = 1_000
HISTORY_ROWS_MAX: Final = 100_000
PAYMENT_UNLOCK_S: Final = 30
"""Seconds that a wallet is unlocked for one payment."""


async def overview(reads: PageReads, query: Mapping[str, str]) -> Facts:
    """The wallets, and what one of them has, receives by and did."""
    wallets = await reads.get("wallet.list")
    names = [entry["wallet"] for entry in wallets]
    wallet = query.get("wallet", names[0] if names else "default")
    facts: Facts = {"wallets": names, "wallet": wallet, "info": None}
    if wallet not in names:
        return facts
    info = await reads.get("wallet.info", wallet=wallet)
    facts["info"] = info
    if info["open"] and not info["failure"]:
        facts["balance"] = await reads.get("wallet.balance", wallet=wallet)
        facts["receiving"] = await reads.get("wallet.address", wallet=wallet)
        facts["history"] = await reads.get("wallet.history", wallet=wallet, limit=HISTORY_SHOWN)
    return facts


async def confirmation(reads: PageReads, form: Mapping[str, str]) -> Facts:
    """A payment as it would be made: fee, payees and change, and nothing sent yet."""
    wallet = _field(form, "wallet")
    payment = {"payee": _field(form, "payee").strip(), "memo": form.get("memo", "")}
    amount = form.get("amount", "").strip()
    if amount:
        payment["amount"] = amount
    prepared = await reads.get("wallet.prepare", wallet=wallet, payments=[payment])
    return {
        "wallet": wallet,
        "prepared": prepared,
        "info": await reads.get("wallet.info", wallet=wallet),
    }


async def send(reads: PageReads, form: Mapping[str, str]) -> Facts:
    """Sign and send the transfer that was confirmed."""
    wallet, file = _field(form, "wallet"), _field(form, "file")
    passphrase = form.get("passphrase", "")
    info = await reads.get("wallet.info", wallet=wallet)
    unlocks = bool(passphrase) or (info["locked"] and not info["has_passphrase"])
    if unlocks:
        await reads.get(
            "wallet.unlock", wallet=wallet, passphrase=passphrase, seconds=float(PAYMENT_UNLOCK_S)
        )
    try:
        signed = await reads.get("wallet.sign", wallet=wallet, file=file)
    finally:
        if unlocks:
            # What was unlocked for this payment is open for no other.
            with trio.CancelScope(shield=True):
                await reads.get("wallet.lock", wallet=wallet)
    return {
        "wallet": wallet,
        "sent": await reads.get("wallet.broadcast", wallet=wallet, files=[signed["file"]]),
    }


async def history_csv(reads: PageReads, query: Mapping[str, str]) -> bytes:
    """Return all that a wallet did as CSV, as `wallet history --csv` writes it."""
    wallet = query.get("wallet", "default")
    out = io.StringIO(newline="")
    rows = HistoryCsv(out)
    params: dict[str, Any] = {"wallet": wallet, "limit": ROWS_AT_ONCE}
    for _ in range(0, HISTORY_ROWS_MAX, ROWS_AT_ONCE):
        page = await reads.get("wallet.history", **params)
        rows.write(page)
        if len(page) < ROWS_AT_ONCE:
            break
        params["after"] = page[-1]["id"]
    return out.getvalue().encode()


def _field(form: Mapping[str, str], name: str) -> str:
    text = form.get(name, "")
    if not text:
        raise InvalidParamsError(f"the form lacks {name}")
    return text

"""The tables of sizes in docs/storage.md, worked out from the layout on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import MAIN
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.crypto.history_range import HISTORY_PAGE_HEIGHT, HISTORY_PAGE_SIZE
from unchained.node.crypto.state_range import STATE_PAGE_HEIGHT, STATE_PAGE_SIZE
from unchained.node.primitives.body import Body
from unchained.node.primitives.conditions import KeyCondition
from unchained.node.primitives.transfer import Input, Output, Signature, SizedTransfer, Transfer
from unchained.node.primitives.types import CoinId, KeyHash, Lock
from unchained.storage import schema
from unchained.storage.schema import (
    AnchorConnected,
    AnchorRecord,
    CoinAccepted,
    CoinHistory,
    OwnedCoin,
    SpentCoin,
    StateRecord,
    TransferEntered,
    TransferLeft,
    TransferPlace,
    UndoRecord,
)

PAGE = (Path(__file__).parents[3] / "docs" / "storage.md").read_text(encoding="utf-8")
ID = bytes(range(32))
HEIGHT, POSITION, VALUE = 400_000, 300_000_000, 10**8
ANCHORS_A_YEAR = 365.25 * 86_400_000 / MAIN.epoch_ms
COINS = MAIN.coins_per_epoch
NOTE = 1_360


def payment() -> SizedTransfer:
    """Return a transfer of one input and two outputs to paycodes."""
    condition = KeyCondition(KeyHash(ID)).to_bytes()
    outputs = (Output(VALUE, ID, bytes(NOTE)),) * 2
    signature = Signature(bytes(1_952), bytes(3_309))
    spent = Input(ID, condition, ID)
    transfer = Transfer(1, MAIN.chain_id, 0, 12_345, (spent,), outputs, (signature,), ())
    return SizedTransfer.from_bytes(transfer.to_bytes())


PAYMENT = payment()
PAYMENTS = MAIN.max_body_size // PAYMENT.size


def history(txid: bytes, spent_by: bytes) -> int:
    kind = CoinKind.OUTPUT if txid else CoinKind.FRESH
    spent_height = HEIGHT if spent_by else 0
    row = CoinHistory(kind, HEIGHT, VALUE, txid, 1, spent_height, spent_by, POSITION)
    return len(schema.HISTORY.key(CoinId(ID))) + len(schema.HISTORY.encode(row))


def event(found: schema.Event) -> int:
    return len(schema.EVENT.key(1)) + len(schema.EVENT.encode(found))


UNSPENT = len(schema.UNSPENT.key(CoinId(ID))) + len(
    schema.UNSPENT.encode(UnspentCoin(VALUE, Lock(ID), HEIGHT, True, POSITION))
)
OWNER = len(schema.OWNER.key(ID, ID)) + len(schema.OWNER.encode(OwnedCoin(VALUE, HEIGHT)))
TRANSFER = len(schema.TRANSFER.key(ID)) + len(PAYMENT.raw)
TXID = len(schema.TXID.key(ID)) + len(schema.TXID.encode(TransferPlace(ID, HEIGHT, 300)))
COIN = len(schema.COIN.key(CoinId(ID))) + 198
HEIGHT_ROW = len(schema.HEIGHT.key(HEIGHT)) + 32
QUIET_EVENTS = event(AnchorConnected(HEIGHT, ID)) + COINS * event(CoinAccepted(ID))
PAYMENT_EVENTS = event(TransferEntered(ID)) + event(TransferLeft(ID, 1))


def anchor(transfers: int) -> int:
    body = Body((ID,) * (COINS - 1), (), (ID,) * transfers, ID, ID).to_bytes()
    row = AnchorRecord(bytes(198), body, 1, 0, 2**40)
    return len(schema.ANCHOR.key(ID)) + len(schema.ANCHOR.encode(row))


def page(key: bytes, size: int, height: int) -> float:
    """Return the bytes of pages for each leaf, with those above."""
    leaves = 1 << height
    return (len(key) + size) / leaves * leaves / (leaves - 1)


STATE_PAGE = page(schema.STATE_PAGE.key(0, 1), STATE_PAGE_SIZE, STATE_PAGE_HEIGHT)
HISTORY_PAGE = page(schema.HISTORY_PAGE.key(0, 1), HISTORY_PAGE_SIZE, HISTORY_PAGE_HEIGHT)


def gigabytes(a_body: float) -> str:
    found = a_body * ANCHORS_A_YEAR / 1e9
    if not found:
        return "0"
    return (
        f"{found:.2f} GB" if found < 1 else f"{found:.2g} GB" if found < 100 else f"{found:.0f} GB"
    )


def line(table: str, what: str, row: str, quiet: float, full: float) -> str:
    return f"| {table} | {what} | {row} | {gigabytes(quiet)} | {gigabytes(full)} |"


# Each payment spends one coin, so of its two outputs one is left.
ROWS = [
    ("transfer", "raw transfers, signatures included", f"{TRANSFER:,}", 0, PAYMENTS * TRANSFER),
    (
        "history",
        "how each coin came and went",
        f"{history(b'', b'')} to {history(ID, ID)}",
        COINS * history(b"", b""),
        COINS * history(b"", b"") + PAYMENTS * (history(ID, b"") + history(ID, ID)),
    ),
    (
        "owner",
        "lock to coins, spent or not",
        f"{OWNER}",
        COINS * OWNER,
        (COINS + 2 * PAYMENTS) * OWNER,
    ),
    (
        "state page",
        "the range over all positions, spent or not",
        f"{STATE_PAGE:.0f} per position",
        COINS * STATE_PAGE,
        (COINS + 2 * PAYMENTS) * STATE_PAGE,
    ),
    (
        "event",
        "the event log",
        f"{event(CoinAccepted(ID))} to {event(AnchorConnected(HEIGHT, ID))}",
        QUIET_EVENTS,
        QUIET_EVENTS + PAYMENTS * PAYMENT_EVENTS,
    ),
    ("unspent", "the coin set", f"{UNSPENT}", COINS * UNSPENT, (COINS + PAYMENTS) * UNSPENT),
    ("txid", "where a transfer stands", f"{TXID}", 0, PAYMENTS * TXID),
    (
        "anchor",
        "anchors with their bodies' lists",
        f"{anchor(0)} + 34 per transfer",
        anchor(0),
        anchor(PAYMENTS),
    ),
    ("coin", "minted coins, 198 bytes each", f"{COIN}", COINS * COIN, COINS * COIN),
    (
        "history page",
        "the range over all anchors",
        f"{HISTORY_PAGE:.0f} per anchor",
        HISTORY_PAGE,
        HISTORY_PAGE,
    ),
    ("height", "the main chain's ids", f"{HEIGHT_ROW}", HEIGHT_ROW, HEIGHT_ROW),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_grows_is_as_the_page_says(row: tuple[str, str, str, float, float]) -> None:
    assert line(*row) in PAGE


def test_the_sums_are_as_the_page_says() -> None:
    quiet, full = (gigabytes(sum(row[at] for row in ROWS)) for at in (3, 4))
    assert f"| **sum** | | | **{quiet}** | **{full}** |" in PAGE
    millions = PAYMENTS * ANCHORS_A_YEAR / 1e6
    assert f"two outputs to paycodes, {PAYMENTS} of them, {millions:.0f} million a year" in PAGE


def test_what_stays_bounded_is_as_the_page_says() -> None:
    state = StateRecord(POSITION, 10**15, 10**9, bytes(5 + 82 * 10))
    kept = len(schema.STATE.key(HEIGHT)) + len(schema.STATE.encode(state))
    assert f"| as undo | {round(kept, -2)} bytes each |" in PAGE
    bound = len(schema.BOUND.key(ID, ID))
    quiet_mb = bound * COINS * MAIN.max_reorg / 1e6
    assert f"| {bound} bytes per coin, {quiet_mb:.1f} MB when quiet |" in PAGE
    spent = (SpentCoin(ID, VALUE, ID, HEIGHT, 1, POSITION),) * 1_000
    undo = len(schema.UNDO.encode(UndoRecord(spent))) / 1_000
    full_mb = undo * PAYMENTS * MAIN.max_reorg / 1e6
    assert f"| {full_mb:.0f} MB when full;" in PAGE

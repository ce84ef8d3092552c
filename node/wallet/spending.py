"""What whoever asks for a signature may spend: a limit that is counted where signatures are made,
so that no way to spend goes around it.

The limit belongs to a call, not to a wallet: it is set for what one task does, and Trio hands it on
to the worker threads that this task waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from unchained.node.wallet.errors import WalletError


class SignedTransfers(Protocol):
    """Tells what has become of transfers that were signed and handed out."""

    def left_ms(self, txid: bytes, coin_id: bytes) -> int | None:
        """Return when a transfer took a coin out of the wallet, by its anchor's time in ms; 0 where
        something else has spent the coin, None while it may still come, or what has spent the coin
        may still be undone."""


class Allowance(Protocol):
    """What one caller may still spend. Amounts in grains. Called from any thread."""

    def settle(self, signed: SignedTransfers) -> None:
        """Let what was handed out count by when it left the wallet, where it has, and no more where
        it cannot come any more."""

    def reserve(
        self, txid: bytes, amount: int, replaced: bytes = b"", coin_id: bytes = b""
    ) -> bool:
        """Count what a transfer takes out of the wallet, before it is signed; what it counted for
        already, and what the transfer `replaced` did, is not counted again. Return whether it had
        not been counted before. One that is handed out, `coin_id` being a coin that it spends, may
        be sent at any time, so it counts until it is known when it was.

        Raises `SpendingLimitError` where it is too much, `TooManySignedError`: then nothing is
        counted.
        """

    def check(self, amount: int) -> None:
        """Raise `SpendingLimitError` where so much more would be too much."""

    def release(self, txid: bytes) -> None:
        """Count a transfer no more: it has not been sent, and nobody else has it."""


class _Call:
    """The allowance of one call, and the transfers that it has reserved and not yet sent."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.unsent: set[bytes] = set()


_CALL: Final[ContextVar[_Call | None]] = ContextVar("spending", default=None)


@contextmanager
def limited_by(allowance: Allowance | None) -> Iterator[None]:
    """Let all that is signed inside count against an allowance; None: there is no limit.

    What was reserved inside, and not sent when a wallet refuses, is released.
    """
    call = None if allowance is None else _Call(allowance)
    token = _CALL.set(call)
    try:
        yield
    except WalletError:
        if call is not None:
            for txid in sorted(call.unsent):
                call.allowance.release(txid)
        raise
    finally:
        _CALL.reset(token)


def is_limited() -> bool:
    """Return whether whoever asks may spend so much and no more."""
    return _CALL.get() is not None


def check(amount: int) -> None:
    """Raise `SpendingLimitError` where whoever asks may not spend so much more.

    Asked before coins are looked for: whether there are enough of them for what he may not spend
    is none of his business.
    """
    call = _CALL.get()
    if call is not None:
        call.allowance.check(amount)


def settle(signed: SignedTransfers) -> None:
    """Find out what has become of the transfers that were handed to whoever asks."""
    call = _CALL.get()
    if call is not None:
        call.allowance.settle(signed)


def reserve(txid: bytes, amount: int, replaced: bytes = b"", coin_id: bytes = b"") -> None:
    """Count a transfer against the limit of whoever asks for its signature; `coin_id` as
    `Allowance.reserve` has it.

    Raises `SpendingLimitError`, `TooManySignedError`.
    """
    call = _CALL.get()
    if call is None or txid in call.unsent:
        return
    # Signed by an earlier call it may be in other hands already, whatever comes of this one.
    if call.allowance.reserve(txid, amount, replaced, coin_id):
        call.unsent.add(txid)


def note_sent(txid: bytes) -> None:
    """Note that others have a transfer: it counts from here on, whatever comes."""
    call = _CALL.get()
    if call is not None:
        call.unsent.discard(txid)


def note_refused(txid: bytes) -> None:
    """Note that the node did not take a transfer, and nobody has it."""
    call = _CALL.get()
    if call is not None and txid in call.unsent:
        call.unsent.discard(txid)
        call.allowance.release(txid)

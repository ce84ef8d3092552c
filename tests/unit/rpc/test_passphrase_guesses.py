"""Bearers of tokens guess no passphrases, and hold nobody up."""

from __future__ import annotations

import pytest
import trio

from tests.framework.endless_token import endless_rights
from unchained.node.rpc.core.errors import BusyError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.methods.passphrase_guesses import WAIT_LAST_S, PassphraseGuesses
from unchained.node.wallet.errors import WrongPassphraseError

BEARER = Caller(Access.PUBLIC, endless_rights("shop"))


def guess(guesses: PassphraseGuesses, caller: Caller, wallet: str = "shop") -> None:
    with caller.acting(), guesses.attempt(wallet):
        raise WrongPassphraseError


async def test_a_days_guesses_of_a_token_are_few() -> None:
    guesses = PassphraseGuesses()
    tried = 0
    waits: list[int] = []
    for _ in range(24 * 60 * 60):
        try:
            guess(guesses, BEARER)
        except WrongPassphraseError:
            tried += 1
        except BusyError as error:
            waits.append(int(str(error.data["retry_after"])))
        await trio.sleep(1)
    assert 1 <= min(waits) <= max(waits) <= WAIT_LAST_S + 1
    assert tried < 10 + 24 * 60 * 60 / WAIT_LAST_S
    # Neither the owner waits for that, nor another wallet's token.
    for caller, wallet in ((NODE_OWNER, "shop"), (BEARER, "till")):
        with pytest.raises(WrongPassphraseError):
            guess(guesses, caller, wallet)


async def test_one_token_tries_at_a_time_and_a_right_one_ends_the_wait() -> None:
    guesses = PassphraseGuesses()
    with BEARER.acting(), guesses.attempt("shop"):
        with pytest.raises(BusyError), guesses.attempt("till"):
            raise AssertionError("two tokens try at a time")
        with NODE_OWNER.acting(), guesses.attempt("till"):
            await trio.lowlevel.checkpoint()
    with pytest.raises(WrongPassphraseError):
        guess(guesses, BEARER)
    with pytest.raises(BusyError):
        guess(guesses, BEARER)
    with NODE_OWNER.acting(), guesses.attempt("shop"):
        await trio.lowlevel.checkpoint()
    with BEARER.acting(), guesses.attempt("shop"):
        await trio.lowlevel.checkpoint()

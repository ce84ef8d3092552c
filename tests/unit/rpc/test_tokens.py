"""The book of tokens: what is on disk, what lets whom in, what is counted."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from unchained.node.rpc.core.registry import Access, Scope
from unchained.node.rpc.http import tokens
from unchained.node.rpc.http.tokens import (
    FILE_BYTES_MAX,
    PREFIX,
    SIGNED_MAX,
    SPENDING_DAY_MS,
    SPENT_EACH_MAX,
    TOKENS_MAX,
    TokenBook,
    TokenError,
    TooManyTokensError,
)
from unchained.node.rpc.node_server import TRANSLATIONS
from unchained.node.wallet.errors import SpendingLimitError, TooManySignedError

UNC = 10**8


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms


class Book:
    """A book of tokens on disk, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.path = folder / "rpc.tokens"
        self.book = self.open()

    def open(self) -> TokenBook:
        return TokenBook(self.path, self.clock)

    def spender(self, limit: int = 10 * UNC) -> str:
        token, _ = self.book.create("shop", [Scope.SPEND], daily_limit=limit)
        return token.id


@pytest.fixture
def kept(tmp_path: Path) -> Book:
    return Book(tmp_path)


def txid(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_token_gives_its_rights_across_restarts_until_it_is_revoked(kept: Book) -> None:
    token, secret = kept.book.create(
        "shop", [Scope.SPEND, Scope.READ, Scope.READ], daily_limit=5, label="till"
    )
    assert secret.startswith(PREFIX + token.id)
    for book in (kept.book, kept.open()):
        caller = book.caller(secret)
        assert caller is not None
        assert caller.access is Access.PUBLIC
        assert caller.rights is not None
        assert (caller.rights.wallet, caller.rights.scopes) == ("shop", {Scope.READ, Scope.SPEND})
    assert kept.book.revoke(token.id)
    assert not kept.book.revoke(token.id)
    for book in (kept.book, kept.open()):
        assert book.caller(secret) is None
        assert book.tokens() == []


def test_the_file_is_the_owners_alone_and_holds_no_secret(kept: Book) -> None:
    _, secret = kept.book.create("shop", [Scope.READ])
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert secret.removeprefix(PREFIX)[16:] not in kept.path.read_text()
    assert secret not in repr(kept.book.tokens())


def test_nothing_else_lets_anybody_in(kept: Book) -> None:
    first, one = kept.book.create("shop", [Scope.READ])
    _, two = kept.book.create("other", [Scope.READ])
    mixed = PREFIX + first.id + two.removeprefix(PREFIX)[16:]
    last = "0" if one[-1] != "0" else "1"
    for wrong in ("", PREFIX, mixed, one[:-1], one[:-1] + last, one + "0", one.upper(), "é"):
        assert kept.book.caller(wrong) is None


def test_tokens_go_with_a_wallets_name_and_another_wallets_do_not(kept: Book) -> None:
    _, stale = kept.book.create("new", [Scope.READ])
    _, secret = kept.book.create("shop", [Scope.READ])
    kept.book.rename_wallet("shop", "new")
    for book in (kept.book, kept.open()):
        caller = book.caller(secret)
        assert caller is not None
        assert caller.rights is not None
        assert caller.rights.wallet == "new"
        assert book.caller(stale) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"version": 2, "tokens": []}', b'{"version": 1, "tokens": [1]}'],
)
def test_a_file_of_something_else_is_refused(kept: Book, content: bytes) -> None:
    kept.path.write_bytes(content)
    with pytest.raises(TokenError, match=r"rpc\.tokens"):
        kept.open()


def test_tokens_are_bounded(kept: Book) -> None:
    made, _ = kept.book.create("shop", [Scope.READ])
    many = [msgspec.structs.replace(made, id=f"{n:016x}") for n in range(TOKENS_MAX)]
    kept.path.write_bytes(msgspec.json.encode({"version": 1, "tokens": many}))
    full = kept.open()
    with pytest.raises(TooManyTokensError):
        full.create("shop", [Scope.READ])
    assert full.revoke(many[0].id)
    full.create("shop", [Scope.READ])


def test_what_is_spent_counts_for_a_day_and_across_restarts(kept: Book) -> None:
    spender = kept.spender()
    kept.book.reserve(spender, txid(1), 6 * UNC, b"")
    kept.clock.ms += SPENDING_DAY_MS // 2
    book = kept.open()
    book.reserve(spender, txid(2), 4 * UNC, b"")
    with pytest.raises(SpendingLimitError, match="10 UNC a day, has spent 10 UNC"):
        book.reserve(spender, txid(3), 1, b"")
    kept.clock.ms += SPENDING_DAY_MS // 2
    assert book.spent(book.tokens()[0]) == 4 * UNC
    book.reserve(spender, txid(3), 6 * UNC, b"")
    with pytest.raises(SpendingLimitError):
        book.reserve(spender, txid(4), 1, b"")


def test_one_transfer_counts_once_and_not_when_it_was_refused(kept: Book) -> None:
    spender = kept.spender()
    assert kept.book.reserve(spender, txid(1), 6 * UNC, b"")
    kept.book.release(spender, txid(1))
    assert kept.book.reserve(spender, txid(2), 10 * UNC, b"")
    for _ in range(2):
        assert not kept.book.reserve(spender, txid(2), 10 * UNC, b"")
    # whoever was given the second signature has it, whatever the node said of the first
    kept.book.release(spender, txid(2))
    with pytest.raises(SpendingLimitError):
        kept.book.reserve(spender, txid(3), 1, b"")


def test_of_transfers_that_replace_one_another_the_largest_counts(kept: Book) -> None:
    spender = kept.spender()
    kept.book.reserve(spender, txid(1), 6 * UNC, b"")
    kept.book.reserve(spender, txid(2), 7 * UNC, txid(1))
    kept.book.reserve(spender, txid(3), 9 * UNC, txid(2))
    assert kept.book.spent(kept.book.tokens()[0]) == 9 * UNC
    with pytest.raises(SpendingLimitError):
        kept.book.reserve(spender, txid(4), 11 * UNC, txid(3))
    kept.book.release(spender, txid(3))
    assert kept.book.spent(kept.book.tokens()[0]) == 7 * UNC


class Chain:
    """Tells when transfers left the wallet, as a test has them do."""

    def __init__(self, **left: int) -> None:
        self._left = {txid(int(name[1:])): at for name, at in left.items()}

    def left_ms(self, txid: bytes, coin_id: bytes) -> int | None:
        assert coin_id == COIN
        return self._left.get(txid)


COIN = bytes(range(32))


def test_what_is_signed_and_handed_out_counts_until_a_day_after_it_was_sent(kept: Book) -> None:
    """One day's limit signed each day, and all of it sent at once, was spent in one day."""
    spender = kept.spender()
    kept.book.reserve(spender, txid(1), 6 * UNC, b"", COIN)
    kept.book.reserve(spender, txid(2), 3 * UNC, b"")
    kept.clock.ms += 3 * SPENDING_DAY_MS
    for book in (kept.book, kept.open()):
        (token,) = book.tokens()
        assert book.spent(token) == 6 * UNC
        with pytest.raises(SpendingLimitError, match="no anchor includes yet"):
            book.reserve(spender, txid(3), 5 * UNC, b"", COIN)
    book = kept.open()
    book.settle(spender, Chain())
    assert book.spent(book.tokens()[0]) == 6 * UNC
    # an anchor that is ahead of the own clock lets it count no longer
    book.settle(spender, Chain(t1=kept.clock.ms + 1_000))
    kept.clock.ms += SPENDING_DAY_MS - 1
    assert book.spent(book.tokens()[0]) == 6 * UNC
    kept.clock.ms += 1
    assert book.spent(book.tokens()[0]) == 0
    assert book.reserve(spender, txid(3), 10 * UNC, b"", COIN)
    # something else has spent its coin
    book.settle(spender, Chain(t3=0))
    assert book.spent(book.tokens()[0]) == 0


class Busy(Chain):
    """Lets something else be done with the tokens while it is asked."""

    def __init__(self, meanwhile: Callable[[], object], **left: int) -> None:
        super().__init__(**left)
        self._meanwhile = meanwhile

    def left_ms(self, txid: bytes, coin_id: bytes) -> int | None:
        self._meanwhile()
        return super().left_ms(txid, coin_id)


def test_what_is_spent_while_the_wallet_looks_counts_too(kept: Book) -> None:
    book, spender = kept.book, kept.spender()
    book.reserve(spender, txid(1), 3 * UNC, b"", COIN)
    book.settle(
        spender,
        Busy(lambda: book.reserve(spender, txid(2), 5 * UNC, b""), t1=kept.clock.ms),
    )
    for read in (book, kept.open()):
        assert read.spent(read.tokens()[0]) == 8 * UNC


def test_a_token_that_is_revoked_while_the_wallet_looks_stays_revoked(kept: Book) -> None:
    book, spender = kept.book, kept.spender()
    book.reserve(spender, txid(1), 3 * UNC, b"", COIN)
    book.settle(spender, Busy(lambda: book.revoke(spender), t1=kept.clock.ms))
    for read in (book, kept.open()):
        assert read.tokens() == []


def test_what_was_sent_and_is_handed_out_as_well_counts_on(kept: Book) -> None:
    spender = kept.spender()
    kept.book.reserve(spender, txid(1), 6 * UNC, b"")
    assert not kept.book.reserve(spender, txid(1), 6 * UNC, b"", COIN)
    kept.clock.ms += 2 * SPENDING_DAY_MS
    assert kept.book.spent(kept.book.tokens()[0]) == 6 * UNC


def test_so_many_are_signed_and_not_sent_and_no_more(kept: Book) -> None:
    spender = kept.spender()
    for number in range(SIGNED_MAX):
        kept.book.reserve(spender, txid(number), 1, b"", COIN)
    with pytest.raises(TooManySignedError, match=f"^{SIGNED_MAX} transfers"):
        kept.book.reserve(spender, txid(SIGNED_MAX), 1, b"", COIN)
    # what is sent at once is sent
    kept.book.reserve(spender, txid(SIGNED_MAX), 1, b"")
    kept.book.settle(spender, Chain(t0=kept.clock.ms))
    kept.book.reserve(spender, txid(SIGNED_MAX + 1), 1, b"", COIN)
    assert kept.book.spent(kept.book.tokens()[0]) == SIGNED_MAX + 2


def test_so_many_are_handed_out_also_of_those_that_were_sent(kept: Book) -> None:
    spender = kept.spender()
    for number in range(SIGNED_MAX + 1):
        kept.book.reserve(spender, txid(number), 1, b"")
    for number in range(SIGNED_MAX):
        assert not kept.book.reserve(spender, txid(number), 1, b"", COIN)
    with pytest.raises(TooManySignedError):
        kept.book.reserve(spender, txid(SIGNED_MAX), 1, b"", COIN)
    # one that is handed out already is one, however often
    assert not kept.book.reserve(spender, txid(0), 1, b"", COIN)
    kept.clock.ms += SPENDING_DAY_MS
    assert kept.book.spent(kept.book.tokens()[0]) == SIGNED_MAX
    # what was refused was not signed
    kept.book.reserve(spender, txid(SIGNED_MAX), 1, b"")
    kept.book.release(spender, txid(SIGNED_MAX))
    assert kept.book.spent(kept.book.tokens()[0]) == SIGNED_MAX


@pytest.mark.parametrize("others", [0, SPENT_EACH_MAX - 1])
def test_what_replaces_another_and_is_handed_out_counts_in_its_place(
    kept: Book, others: int
) -> None:
    spender = kept.spender(limit=13 * UNC)
    kept.book.reserve(spender, txid(1), 10 * UNC, b"")
    kept.book.reserve(spender, txid(2), 12 * UNC, txid(1), COIN)
    for number in range(others):
        kept.book.reserve(spender, txid(10 + number), 1, b"")
    assert kept.book.reserve(spender, txid(3), 13 * UNC - others, txid(2), COIN)
    for book in (kept.book, kept.open()):
        assert book.spent(book.tokens()[0]) == 13 * UNC


def test_what_replaces_a_transfer_of_yesterday_counts_whole(kept: Book) -> None:
    spender = kept.spender()
    kept.book.reserve(spender, txid(1), 6 * UNC, b"")
    kept.clock.ms += SPENDING_DAY_MS - 1
    kept.book.reserve(spender, txid(2), 7 * UNC, txid(1))
    assert kept.book.spent(kept.book.tokens()[0]) == 7 * UNC
    kept.clock.ms += 1
    for book in (kept.book, kept.open()):
        assert book.spent(book.tokens()[0]) == 7 * UNC
        with pytest.raises(SpendingLimitError, match="has spent 7 UNC"):
            book.reserve(spender, txid(3), 4 * UNC, b"")
    kept.book.reserve(spender, txid(4), 8 * UNC, txid(2))
    assert kept.book.spent(kept.book.tokens()[0]) == 8 * UNC
    kept.clock.ms += SPENDING_DAY_MS
    assert kept.book.spent(kept.book.tokens()[0]) == 0


def test_two_that_spend_at_once_cannot_both_pass(kept: Book) -> None:
    spender = kept.spender()
    passed: list[int] = []
    ready = threading.Barrier(8)

    def spend(number: int) -> None:
        ready.wait()
        try:
            kept.book.reserve(spender, txid(number), 4 * UNC, b"")
        except SpendingLimitError:
            return
        passed.append(number)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 2
    assert kept.book.spent(kept.book.tokens()[0]) == 8 * UNC


def test_a_revoked_token_spends_nothing_more(kept: Book) -> None:
    token, secret = kept.book.create("shop", [Scope.SPEND], daily_limit=UNC)
    caller = kept.book.caller(secret)
    assert caller is not None
    assert caller.rights is not None
    kept.book.revoke(token.id)
    with pytest.raises(SpendingLimitError):
        caller.rights.allowance.reserve(txid(1), 1)
    caller.rights.allowance.release(txid(1))


@pytest.mark.parametrize("how", ["revoke", "forget", "rename"])
async def test_who_waits_hears_of_a_token_that_is_revoked(kept: Book, how: str) -> None:
    token, secret = kept.book.create("shop", [Scope.READ])
    _, other_secret = kept.book.create("other", [Scope.READ])
    caller, other = kept.book.caller(secret), kept.book.caller(other_secret)
    assert caller is not None
    assert other is not None
    change = {
        "revoke": lambda: kept.book.revoke(token.id),
        "forget": lambda: kept.book.forget_wallet("shop"),
        "rename": lambda: kept.book.rename_wallet("shop", "store"),
    }[how]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.wait_revoked)
        async with trio.open_nursery() as waiting:
            for _ in range(2):
                waiting.start_soon(caller.wait_revoked)
            await trio.testing.wait_all_tasks_blocked()
            # As the node does it, in a thread of its own.
            await trio.to_thread.run_sync(change)
        await caller.wait_revoked()
        assert (caller.stands(), other.stands()) == (False, True)
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()
    kept.book.forget_wallet("other")
    assert not other.stands()


def test_nothing_is_reserved_that_could_not_be_written(
    kept: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    spender = kept.spender()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unchained.node.rpc.http.tokens.write_private", full)
    with pytest.raises(OSError, match="No space"):
        kept.book.reserve(spender, txid(1), 1, b"")
    assert kept.book.spent(kept.book.tokens()[0]) == 0


def test_no_file_is_written_that_could_not_be_read(
    kept: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    spender = kept.spender()
    monkeypatch.setattr(tokens, "FILE_BYTES_MAX", kept.path.stat().st_size + 300)
    kept.book.reserve(spender, txid(1), 1, b"")
    for number in (2, 3):
        with pytest.raises(OSError, match="too large"):
            kept.book.reserve(spender, txid(number), 1, b"")
    book = kept.open()
    assert book.spent(book.tokens()[0]) == 1


def test_what_takes_nothing_out_is_not_kept(kept: Book) -> None:
    """A token of limit 0 would fill the file of all of them by signing such transfers."""
    spender = kept.spender(limit=0)
    before = kept.path.read_bytes()
    for number in range(3):
        assert not kept.book.reserve(spender, txid(number), 0, b"")
        kept.book.release(spender, txid(number))
    assert kept.path.read_bytes() == before
    kept.book.revoke(spender)
    with pytest.raises(SpendingLimitError):
        kept.book.reserve(spender, txid(9), 0, b"")


def test_however_often_a_token_spends_the_file_of_all_can_be_read(
    kept: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "write_private", lambda path, content: written.append(content))
    written: list[bytes] = []
    limit = 2**63
    spender = kept.spender(limit)
    signed = 6 * SPENT_EACH_MAX
    for number in range(signed, signed + SIGNED_MAX):
        kept.book.reserve(spender, txid(number), 1, b"", COIN)
    for number in range(signed):
        # a day's transfers, of the largest amounts that there can be
        kept.book.reserve(spender, txid(number), limit // signed, b"")
        kept.clock.ms += SPENDING_DAY_MS // signed
    (token,) = kept.book.tokens()
    # the first of them are older than a day; of the hours before the last ones one entry is kept
    assert token.spent[-1].txid == txid(signed - 1).hex()
    assert [entry.txid for entry in token.spent].count("") <= 24
    assert len(token.spent) <= SPENT_EACH_MAX + 25 + SIGNED_MAX
    assert kept.book.spent(token) >= (signed - 1) * (limit // signed)
    assert len(written[-1]) * TOKENS_MAX < FILE_BYTES_MAX
    with pytest.raises(SpendingLimitError):
        kept.book.reserve(spender, txid(2 * signed), limit // 100, b"")
    kept.clock.ms += SPENDING_DAY_MS
    assert kept.book.spent(token) == SIGNED_MAX
    gone = Chain(**{f"t{number}": 0 for number in range(signed, signed + SIGNED_MAX)})
    kept.book.settle(spender, gone)
    kept.book.create("other", [Scope.SPEND])
    assert not any(token.spent for token in kept.book.tokens()), "what has expired is kept"


def test_who_asks_does_not_wait_for_the_file(kept: Book) -> None:
    _, secret = kept.book.create("shop", [Scope.READ])
    with kept.book._lock:
        assert kept.book.caller(secret) is not None
        assert len(kept.book.tokens()) == 1


def test_tokens_go_with_their_wallet(kept: Book) -> None:
    _, one = kept.book.create("shop", [Scope.READ])
    _, two = kept.book.create("other", [Scope.READ])
    kept.book.rename_wallet("shop", "store")
    for book in (kept.book, kept.open()):
        caller = book.caller(one)
        assert caller is not None
        assert caller.rights is not None
        assert caller.rights.wallet == "store"
    kept.book.forget_wallet("store")
    for book in (kept.book, kept.open()):
        assert book.caller(one) is None
        assert book.caller(two) is not None


def test_a_file_that_cannot_be_written_is_named(
    kept: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, secret = kept.book.create("shop", [Scope.READ])

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        kept.book.revoke(made.id)
    (answer,) = [translate(caught.value) for kind, translate in TRANSLATIONS if kind is OSError]
    assert answer.message == f"{kept.path}: No space left on device"
    assert kept.book.caller(secret) is not None

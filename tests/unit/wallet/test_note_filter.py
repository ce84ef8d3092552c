"""The filter of notes finds what the library finds, and the library has the last word."""

from __future__ import annotations

import random

from tests.framework.wallets import cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import OutputPlace, Paycode, open_note, seal_note
from unchained.node.crypto.keys import CIPHERTEXT_SIZE
from unchained.node.primitives.types import Lock
from unchained.node.wallet.note_filter import BATCH, Note, NoteFilter

ACCOUNTS = [cheap_wallet().account() for _ in range(3)]
PLACE = OutputPlace(bytes(range(32)), 2)
CODES = [Paycode(REG.chain_id, one.key_hash, one.view.public_key) for one in ACCOUNTS]


def sealed(owner: int, memo: bytes = b"") -> Note:
    made = seal_note(CODES[owner], PLACE, memo)
    return PLACE, made.lock, made.note


def test_agrees_with_the_library() -> None:
    rng = random.Random(5)
    owners = [rng.randrange(3) for _ in range(BATCH + 100)]
    notes = [sealed(owner, rng.randbytes(rng.randrange(248))) for owner in owners]
    for index, account in enumerate(ACCOUNTS):
        by_library = [
            at
            for at, note in enumerate(notes)
            if open_note(account.view, account.key_hash, *note) is not None
        ]
        assert NoteFilter(account).candidates(notes) == by_library
        assert by_library == [at for at, owner in enumerate(owners) if owner == index]


def test_passes_over_what_is_no_note() -> None:
    rng = random.Random(6)
    _, lock, note = sealed(0)
    notes = [
        (PLACE, lock, b""),
        (PLACE, lock, note[:-1]),
        (PLACE, lock, note + bytes(1)),
        (PLACE, lock, rng.randbytes(1_360)),
        (PLACE, Lock(bytes(32)), note),
        (PLACE, lock, bytes(1_360)),
        (PLACE, lock, b"\xff" * 1_360),
        (OutputPlace(PLACE.first_input, 1), lock, note),
    ]
    notes_filter = NoteFilter(ACCOUNTS[0])
    assert notes_filter.candidates(notes) == []
    assert notes_filter.candidates([]) == []
    assert "NoteFilter" in repr(notes_filter)


def test_a_tampered_ciphertext_is_the_librarys_to_reject() -> None:
    account = ACCOUNTS[0]
    _, lock, note = sealed(0)
    for at in range(0, CIPHERTEXT_SIZE, 37):
        tampered = note[:at] + bytes((note[at] ^ 1,)) + note[at + 1 :]
        # the salt hashes the ciphertext, so the lock fits no other
        assert NoteFilter(account).candidates([(PLACE, lock, tampered)]) == []
        assert open_note(account.view, account.key_hash, PLACE, lock, tampered) is None

"""Mnemonics and accounts: what is refused, and silence about secrets (Protocol §9)."""

from __future__ import annotations

import pytest

from unchained.node.crypto.accounts import (
    MnemonicChecksumError,
    MnemonicError,
    MnemonicLengthError,
    MnemonicWordError,
    derive_account,
    mining_salt,
    mnemonic_seed,
    new_mnemonic,
)

WORDS = new_mnemonic(bytes(range(32)))
SEED = bytes(range(64))


def test_case_and_spacing_do_not_matter() -> None:
    assert mnemonic_seed(f"  {WORDS.upper()}\n".replace(" ", "  ")) == mnemonic_seed(WORDS)


def test_a_passphrase_makes_another_seed() -> None:
    assert mnemonic_seed(WORDS, "x") != mnemonic_seed(WORDS)


def test_number_of_words() -> None:
    for count in (0, 12, 23, 25):
        words = " ".join((WORDS.split() * 2)[:count])
        with pytest.raises(MnemonicLengthError, match=f"has 24 words, got {count}"):
            mnemonic_seed(words)


def test_unknown_words_are_named_by_place_alone() -> None:
    words = WORDS.split()
    words[6] = "aba"
    with pytest.raises(MnemonicWordError) as caught:
        mnemonic_seed(" ".join(words))
    assert caught.value.position == 7
    assert str(caught.value) == "word 7 of the mnemonic is not on BIP 39's English list"


def test_checksum() -> None:
    words = WORDS.split()
    swapped = [words[1], words[0], *words[2:]]
    with pytest.raises(MnemonicChecksumError, match="checksum is wrong") as caught:
        mnemonic_seed(" ".join(swapped))
    assert isinstance(caught.value, MnemonicError)
    assert isinstance(caught.value, ValueError)
    assert not any(word in str(caught.value).split() for word in words)


def test_entropy_of_another_length() -> None:
    with pytest.raises(ValueError, match="has 32 bytes of entropy, got 16"):
        new_mnemonic(bytes(16))


def test_bad_seeds_and_indexes() -> None:
    with pytest.raises(ValueError, match="has 64 bytes, got 32"):
        derive_account(bytes(32), 1, 0)
    for index in (-1, 2**32):
        with pytest.raises(ValueError, match=f"index is 0 to 4294967295, got {index}"):
            derive_account(SEED, 1, index)


def test_accounts_differ_by_seed_network_and_index() -> None:
    accounts = [
        derive_account(SEED, 1, 0),
        derive_account(SEED, 1, 1),
        derive_account(SEED, 2, 0),
        derive_account(bytes(64), 1, 0),
    ]
    for part in ("key_hash", "mine_secret"):
        assert len({getattr(account, part) for account in accounts}) == len(accounts)
    assert len({account.view.public_key for account in accounts}) == len(accounts)


def test_a_watch_account_finds_and_mines_but_holds_no_spend_key() -> None:
    account = derive_account(SEED, 1, 0)
    watch = account.watch()
    assert (watch.chain_id, watch.key_hash) == (1, account.key_hash)
    assert watch.view is account.view
    assert watch.mining_salt(bytes(32), 5) == mining_salt(account.mine_secret, bytes(32), 5)
    assert watch.mining_lock(bytes(32), 5) != watch.mining_lock(bytes(32), 6)
    assert not hasattr(watch, "spend")


def test_secrets_are_in_no_repr() -> None:
    account = derive_account(SEED, 1, 0)
    for text in (repr(account), str(account.watch())):
        assert "mine_secret" not in text
        assert account.mine_secret.hex() not in text
        assert str(account.mine_secret) not in text
        assert account.view.seed().hex() not in text

"""The wallet's file: sealed, distinguished when wrong, replaced as a whole."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallets import CHEAP
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.accounts import MnemonicError, derive_account, mnemonic_seed
from unchained.node.rpc.core.values import SECRET_CHARS_MAX
from unchained.node.wallet.errors import (
    AccountLimitError,
    BadWalletNameError,
    EmptyPassphraseError,
    KeystoreCorruptError,
    NoSuchAccountError,
    OtherNetworkWalletError,
    WalletExistsError,
    WatchOnlyError,
    WrongPassphraseError,
)
from unchained.node.wallet.keystore import (
    WALLET_FILE_VERSION,
    WALLET_MAGIC,
    Keystore,
    SpendSecret,
    new_secret,
    wallet_names,
    wallet_path,
)
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.wallet_file import (
    DEFAULT_COST,
    KDF_MEMORY_KIB_MAX,
    KDF_WORK_KIB_MAX,
    MAX_ACCOUNTS,
    KdfCost,
)
from unchained.node.wallet.watch_export import WatchExport

WORDS = "abandon " * 23 + "art"


def keystore(passphrase: str = "right", **options: bool) -> Keystore:
    return Keystore.create(REG, SpendSecret.of(WORDS), passphrase, cost=CHEAP, **options)


def test_opens_with_its_passphrase() -> None:
    opened = keystore().unlock("right")
    assert opened.mnemonic() == WORDS
    expected = derive_account(mnemonic_seed(WORDS), REG.chain_id, 0)
    assert opened.account(REG.chain_id, 0).key_hash == expected.key_hash
    assert keystore().account(0).key_hash == expected.key_hash


def test_a_passphrase_is_the_same_in_every_unicode_form() -> None:
    assert keystore("caf\u00e9").unlock("cafe\u0301").mnemonic() == WORDS


def test_keeps_the_passphrase_of_bip_39() -> None:
    secret = SpendSecret.of(WORDS, "TREZOR")
    made = Keystore.create(REG, secret, "right", cost=CHEAP)
    expected = derive_account(mnemonic_seed(WORDS, "TREZOR"), REG.chain_id, 0)
    assert made.unlock("right").account(REG.chain_id, 0).key_hash == expected.key_hash


def test_a_wrong_passphrase_is_distinguished_from_a_damaged_file(tmp_path: Path) -> None:
    path = save_new(keystore(), tmp_path / "wallets", "w")
    loaded = Keystore.load(path, REG)
    with pytest.raises(WrongPassphraseError):
        loaded.unlock("wrong")
    raw = path.read_bytes()
    for at in (len(WALLET_MAGIC) + 1, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
        with pytest.raises(KeystoreCorruptError, match="damaged"):
            Keystore.load(path, REG)
    path.write_bytes(raw[:-5])
    with pytest.raises(KeystoreCorruptError, match="damaged"):
        Keystore.load(path, REG)
    path.write_bytes(b"")
    with pytest.raises(KeystoreCorruptError, match="no wallet file"):
        Keystore.load(path, REG)
    for version in (0, WALLET_FILE_VERSION + 1):
        path.write_bytes(WALLET_MAGIC + bytes((version,)) + raw[len(WALLET_MAGIC) + 1 :])
        with pytest.raises(KeystoreCorruptError, match=f"is of version {version}, expected"):
            Keystore.load(path, REG)


def test_what_stands_in_clear_is_sealed_as_well() -> None:
    made = keystore()
    other = Keystore.create(REG, new_secret(), "right", cost=CHEAP)
    mixed = made.file.__class__(other.file.clear, made.file.nonce, made.file.sealed)
    with pytest.raises(WrongPassphraseError):
        Keystore(REG, mixed).unlock("right")


def test_refuses_another_network() -> None:
    with pytest.raises(OtherNetworkWalletError, match="for network reg, expected local"):
        Keystore.from_bytes(keystore().to_bytes(), LOCAL)


def test_the_file_is_private_and_not_overwritten(tmp_path: Path) -> None:
    os.umask(0o022)
    path = save_new(keystore(), tmp_path / "wallets", "w")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(WalletExistsError):
        save_new(keystore(), tmp_path / "wallets", "w")
    assert wallet_names(tmp_path / "wallets") == ["w"]
    assert wallet_names(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "a.b", "x" * 65, "a\n"])
def test_names_stay_inside_the_directory(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadWalletNameError):
        wallet_path(tmp_path, name)


@pytest.mark.parametrize("name", ["-", "-x", "--help"])
def test_no_wallet_is_given_a_name_that_reads_as_an_option(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadWalletNameError, match="no - at the beginning"):
        save_new(keystore(), tmp_path, name)
    assert wallet_names(tmp_path) == []
    # One that has such a name from before can still be opened, and be called otherwise.
    keystore().save_new(wallet_path(tmp_path, name))
    assert wallet_names(tmp_path) == [name]
    save_new(keystore(), tmp_path, "x-")


def test_no_passphrase_only_when_asked_for() -> None:
    with pytest.raises(EmptyPassphraseError):
        keystore("")
    assert keystore("", allow_empty=True).unlock("").mnemonic() == WORDS
    assert not keystore("", allow_empty=True).has_passphrase
    assert keystore().has_passphrase


def test_changes_the_passphrase() -> None:
    made = keystore()
    with pytest.raises(EmptyPassphraseError):
        made.with_passphrase(made.unlock("right"), "")
    changed = made.with_passphrase(made.unlock("right"), "other")
    assert changed.unlock("other").mnemonic() == WORDS
    with pytest.raises(WrongPassphraseError):
        changed.unlock("right")
    assert changed.file.clear.salt != made.file.clear.salt
    bare = keystore("", allow_empty=True)
    assert bare.with_passphrase(bare.unlock(""), "p").file.clear.cost == DEFAULT_COST


def test_adds_accounts() -> None:
    made = keystore()
    grown = made.with_account("right")
    assert [keys.index for keys in grown.accounts] == [0, 1]
    assert grown.unlock("right").account(REG.chain_id, 1).key_hash == grown.account(1).key_hash
    with pytest.raises(NoSuchAccountError):
        made.account(1)
    with pytest.raises(WrongPassphraseError):
        made.with_account("wrong")


def test_a_watch_only_wallet_has_nothing_to_unlock() -> None:
    watch = Keystore.watch(REG, keystore().accounts, birth=7)
    loaded = Keystore.from_bytes(watch.to_bytes(), REG)
    assert loaded.watch_only
    assert loaded.birth == 7
    with pytest.raises(WatchOnlyError):
        loaded.unlock("right")


def test_no_secret_in_any_repr() -> None:
    made = keystore()
    secret = made.unlock("right")
    shown = repr(made) + repr(secret) + repr(made.accounts) + str(made.file)
    for hidden in (mnemonic_seed(WORDS), secret.to_bytes(), made.accounts[0].mine_secret):
        assert repr(hidden)[2:20] not in shown
        assert hidden.hex() not in shown
    assert "abandon" not in shown


def test_no_error_repeats_a_word() -> None:
    with pytest.raises(MnemonicError) as caught:
        SpendSecret.of("zebra " * 23 + "qqqq")
    assert "zebra" not in str(caught.value)
    assert "qqqq" not in str(caught.value)


@pytest.mark.parametrize("accounts", [0, MAX_ACCOUNTS + 1])
def test_a_wallet_is_not_made_with_more_accounts_than_its_file_holds(accounts: int) -> None:
    with pytest.raises(AccountLimitError, match="1 to 64"):
        Keystore.create(REG, new_secret(), "right", accounts=accounts, cost=CHEAP)


def test_a_full_wallet_takes_no_further_account(tmp_path: Path) -> None:
    full = Keystore.create(REG, SpendSecret.of(WORDS), "right", accounts=MAX_ACCOUNTS, cost=CHEAP)
    path = save_new(full, tmp_path / "wallets", "w")
    loaded = Keystore.load(path, REG)
    with pytest.raises(AccountLimitError):
        loaded.with_account("right")
    # what another machine is to import can be read as well
    exported = WatchExport(REG.chain_id, 0, loaded.accounts)
    assert WatchExport.from_text(exported.to_text(), REG) == exported
    assert len(exported.to_text()) <= SECRET_CHARS_MAX


def test_what_would_not_be_read_again_does_not_replace_what_can_be(tmp_path: Path) -> None:
    path = save_new(keystore(), tmp_path / "wallets", "w")
    before = path.read_bytes()
    loaded = Keystore.load(path, REG)
    wrong = msgspec.structs.replace(
        loaded, file=msgspec.structs.replace(loaded.file, sealed=bytes(5_000))
    )
    with pytest.raises(KeystoreCorruptError):
        wrong.save(path)
    assert path.read_bytes() == before


def test_a_bip_39_passphrase_has_a_limit() -> None:
    SpendSecret.from_bytes(SpendSecret.of(WORDS, "x" * 1_024).to_bytes())
    with pytest.raises(MnemonicError, match="1024 bytes, got 1025"):
        SpendSecret.of(WORDS, "x" * 1_025)


MANY_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from unchained.node.consensus.params import REG
from unchained.node.wallet.keystore import KdfCost, Keystore, new_secret

made = Keystore.create(REG, new_secret(), "pass", cost=KdfCost(4_096, 1, 4))
with ThreadPoolExecutor(8) as pool:
    words = {opened.mnemonic() for opened in pool.map(made.unlock, ["pass"] * 40)}
print(len(words))
"""


def test_many_passphrases_at_once_do_not_wait_for_one_another_for_ever() -> None:
    # in a process of its own: threads of OpenSSL that hang cannot be ended
    done = subprocess.run(
        [sys.executable, "-c", MANY_AT_ONCE], capture_output=True, timeout=300, check=True
    )
    assert done.stdout.strip() == b"1"


def test_a_file_tells_that_the_words_alone_do_not_bring_it_back() -> None:
    for extra in ("", "TREZOR"):
        made = Keystore.create(REG, SpendSecret.of(WORDS, extra), "right", cost=CHEAP)
        read = Keystore.from_bytes(made.to_bytes(), REG)
        assert read.has_bip39_passphrase is bool(extra)
        assert read.has_passphrase
        again = read.with_passphrase(read.unlock("right"), "", allow_empty=True)
        assert (again.has_bip39_passphrase, again.has_passphrase) == (bool(extra), False)


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_new(keystore(), elsewhere, "w")
    link = tmp_path / "w.wallet"
    link.symlink_to(elsewhere / "w.wallet")
    loaded = Keystore.load(link, REG)
    loaded.with_passphrase(loaded.unlock("right"), "other", cost=CHEAP).save(link)
    assert link.is_symlink()
    assert Keystore.load(elsewhere / "w.wallet", REG).unlock("other").mnemonic() == WORDS


class AnyCost(msgspec.Struct, array_like=True):
    """A cost as a stranger may write it into a file."""

    memory_kib: int
    passes: int
    lanes: int


@pytest.mark.parametrize(
    ("memory_kib", "passes", "lanes", "is_taken"),
    [
        (DEFAULT_COST.memory_kib, DEFAULT_COST.passes, DEFAULT_COST.lanes, True),
        (CHEAP.memory_kib, CHEAP.passes, CHEAP.lanes, True),
        (KDF_MEMORY_KIB_MAX, 3, 16, True),
        (KDF_WORK_KIB_MAX // 64, 64, 1, True),
        (KDF_MEMORY_KIB_MAX, 4, 1, False),
        (KDF_MEMORY_KIB_MAX + 1, 1, 1, False),
        (1 << 22, 64, 16, False),
        (32, KDF_WORK_KIB_MAX, 1, False),
        (0, 1, 1, False),
        (32, 0, 1, False),
        (32, 1, 0, False),
        (32, 1, 17, False),
        (-(1 << 20), -1, 1, False),
    ],
)
def test_who_reads_and_who_writes_takes_the_same_cost(
    memory_kib: int, passes: int, lanes: int, is_taken: bool
) -> None:
    made = keystore()
    clear = msgspec.structs.replace(made.file.clear, cost=AnyCost(memory_kib, passes, lanes))
    file = msgspec.structs.replace(made.file, clear=clear)
    raw = msgspec.structs.replace(made, file=file).to_bytes()
    if is_taken:
        assert Keystore.from_bytes(raw, REG).file.clear.cost == KdfCost(memory_kib, passes, lanes)
        return
    with pytest.raises(KeystoreCorruptError, match=f"not with {memory_kib} KiB, {passes} passes"):
        Keystore.from_bytes(raw, REG)
    with pytest.raises(ValueError, match="a passphrase is stretched with"):
        KdfCost(memory_kib, passes, lanes)

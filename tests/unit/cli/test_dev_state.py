"""A development node's wallets and its file of state."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from unchained.node.cli import dev_state
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.dev import short_words
from unchained.node.consensus.params import REG
from unchained.node.wallet.keystore import WALLETS_NAME, Keystore, wallet_path


def test_the_wallets_are_always_the_same_and_need_no_passphrase(tmp_path: Path) -> None:
    dev_state.make_wallets(tmp_path)
    dev_state.make_wallets(tmp_path)
    wallets = dev_state.dev_wallets()
    assert [wallet.name for wallet in wallets] == ["default", "bob", "carol"]
    assert wallets == dev_state.dev_wallets()
    assert len({wallet.address for wallet in wallets}) == 3
    for wallet in wallets:
        keystore = Keystore.load(wallet_path(tmp_path / WALLETS_NAME, wallet.name), REG)
        assert keystore.unlock("").mnemonic() == wallet.words


def test_only_a_development_nodes_directory_is_emptied(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    dev_state.empty(mine)
    (mine / "store").mkdir()
    dev_state.empty(mine)
    assert [path.name for path in mine.iterdir()] == [dev_state.MARKER]
    other = tmp_path / "other"
    other.mkdir()
    (other / "letters").touch()
    with pytest.raises(CommandFailedError, match="is no development node's"):
        dev_state.empty(other)
    assert (other / "letters").exists()
    with pytest.raises(CommandFailedError, match="Not a directory"):
        dev_state.empty(other / "letters" / "below")


def test_a_state_is_saved_and_loaded(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "state"
    for directory in (here, there):
        dev_state.empty(directory)
    dev_state.make_wallets(here)
    (here / "x.chain").write_bytes(b"the chain")
    (tmp_path / ".state.new").symlink_to(tmp_path / "victim")
    dev_state.save(here / "x.chain", here, file)
    assert not (here / "x.chain").exists()
    assert not (tmp_path / "victim").exists(), "a link of somebody else's was followed"
    # its wallets have no passphrase
    assert file.stat().st_mode & 0o777 == 0o600
    assert dev_state.load(file, there).read_bytes() == b"the chain"
    for wallet in dev_state.dev_wallets():
        paths = [wallet_path(place / WALLETS_NAME, wallet.name) for place in (here, there)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert paths[1].stat().st_mode & 0o777 == 0o600


def held(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(dev_state.CHAIN, b"the chain")
            archive.writestr(name, content)

    return write


def without_chain(file: Path) -> None:
    with zipfile.ZipFile(file, "w"):
        pass


def cut(file: Path) -> None:
    held("wallets/a.wallet")(file)
    file.write_bytes(file.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: file.write_bytes(b""), "is no state of a development node"),
        (lambda file: file.write_bytes(b"\xff" * 1000), "is no state of a development node"),
        (lambda file: None, "No such file"),
        (lambda file: file.mkdir(), "Is a directory"),
        (without_chain, "it has no chain"),
        (cut, "is no state of a development node"),
        (held("../../x.wallet"), "holds '../../x.wallet', which is no state"),
        (held("wallets/../x.wallet"), "which is no state"),
        (held("/etc/x.wallet"), "which is no state"),
        (held("wallets/a.wallet"), "is no wallet file"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, write: Callable[[Path], object], said: str
) -> None:
    there, file = tmp_path / "there", tmp_path / "state"
    dev_state.empty(there)
    write(file)
    with pytest.raises(CommandFailedError, match=said):
        dev_state.load(file, there)


def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev_state, "STATE_BYTES_MAX", 1000)
    there, file = tmp_path / "there", tmp_path / "state"
    dev_state.empty(there)
    held("wallets/a.wallet", bytes(2000))(file)
    with pytest.raises(CommandFailedError, match="unpacks to more than 1000 bytes"):
        dev_state.load(file, there)


def test_words_that_are_repeated_are_counted() -> None:
    assert short_words("a a a b c c") == "a (x3) b c (x2)"

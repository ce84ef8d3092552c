"""What crashes have left in a data directory of files with secrets that were being written."""

from __future__ import annotations

from pathlib import Path

from unchained.node.base.files import remove_unfinished, unfinished


def unfinished_in(data_dir: Path) -> list[Path]:
    """Return those of the node and of its wallets."""
    from unchained.node.wallet.keystore import WALLETS_NAME
    from unchained.node.wallet.new_wallet import unfinished_files

    return unfinished(data_dir, _names().__contains__) + unfinished_files(data_dir / WALLETS_NAME)


def remove_unfinished_in(data_dir: Path) -> None:
    """Remove those of the node. Its wallets' go as these are opened."""
    remove_unfinished(data_dir, _names().__contains__)


def _names() -> frozenset[str]:
    from unchained.node.rpc.core.credential_files import COOKIE_FILE, TOKEN_FILE, URL_FILE
    from unchained.node.rpc.http.tokens import TOKENS_FILE
    from unchained.node.transport.identity import PEER_KEY_FILE
    from unchained.node.transport.onion_service import ONION_KEY_NAME

    return frozenset(
        {COOKIE_FILE, ONION_KEY_NAME, PEER_KEY_FILE, TOKEN_FILE, TOKENS_FILE, URL_FILE}
    )

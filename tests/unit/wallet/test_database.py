"""The file of what a wallet knows, as it is made."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from unchained.node.wallet.database import Database
from unchained.node.wallet.errors import StoreUnavailableError


def opened(path: Path) -> Database:
    return Database(path, network_id=b"n", owner=b"o", seed=bytes(32))


@pytest.mark.parametrize("before", ["network", "owner"])
def test_a_file_that_was_being_made_when_the_process_went_is_made_anew(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.db"
    put = Database._put

    def go(database: Database, name: str, value: bytes) -> None:
        if name == before:
            raise KeyboardInterrupt
        put(database, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_put", go)
        with pytest.raises(KeyboardInterrupt):
            opened(path)
    with closing(opened(path)) as database:
        assert database.last_anchor() is None


def test_a_file_that_is_closed_is_not_told_of_as_damaged(tmp_path: Path) -> None:
    database = opened(tmp_path / "w.db")
    database.close()
    database.close()
    for use in (
        database.image,
        database.last_anchor,
        partial(database.run, "DELETE FROM meta"),
        database.transaction().__enter__,
    ):
        with pytest.raises(StoreUnavailableError, match="is closed"):
            use()

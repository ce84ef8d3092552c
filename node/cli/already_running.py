"""A second start on a data directory: said at once, before the parts of a node are imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.guide import Guide
from unchained.node.rpc.core.credential_files import URL_FILE
from unchained.storage.lock import LOCK_NAME, holder_of

if TYPE_CHECKING:
    from unchained.node.base.settings import Settings


def refuse_if_running(settings: Settings) -> None:
    """Raise `CommandFailedError` where another process has the data directory, with what may be
    asked of it. One that comes in between is met when the store is opened."""
    directory = settings.data_dir
    holder = holder_of(directory)
    if holder is None:
        return
    url = _url(directory)
    if url is None:
        raise CommandFailedError(
            f"{directory} is in use by {holder}: a node that is starting or stopping or has no "
            "RPC, or a command; wait for it, stop it, or name another --data-dir"
        )
    guide = Guide(settings)
    raise CommandFailedError(
        f"a node runs in {directory} already, its page is at {url}: "
        f"`{guide.command('status')}` shows it, `{guide.command('stop')}` stops it"
    )


def _url(directory: Path) -> str | None:
    """Return where the holder of a directory's lock is asked; None unless it has said so since it
    took the lock, since a node that was killed leaves its word behind. The holder is not asked: on
    a busy machine that would take its time."""
    file = directory / URL_FILE
    try:
        if file.stat().st_mtime_ns < (directory / LOCK_NAME).stat().st_mtime_ns:
            return None
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None

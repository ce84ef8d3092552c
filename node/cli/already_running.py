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
    page = _page(directory)
    if page is None:
        raise CommandFailedError(
            f"{directory} is in use by {holder}: a node that is starting or stopping or has no "
            "RPC, or a command; wait for it, stop it, or name another --data-dir"
        )
    guide = Guide(settings)
    raise CommandFailedError(
        f"a node of network {settings.config.node.network} runs in {directory} already, page "
        f"{page}: `{guide.command('status')}` shows it, `{guide.command('stop')}` stops it"
    )


def _page(directory: Path) -> str | None:
    """Return where the holder of a directory's lock is asked; None unless it has said so since it
    took the lock, since a node that was killed leaves its word behind. The holder is not asked: on
    a busy machine that would take its time."""
    url = directory / URL_FILE
    try:
        if url.stat().st_mtime_ns < (directory / LOCK_NAME).stat().st_mtime_ns:
            return None
        return url.read_text(encoding="utf-8").strip()
    except OSError:
        return None

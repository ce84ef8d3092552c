"""Whom the settings have told, and the secret that signs what they are sent."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.config import NotifyConfig
from unchained.node.base.files import read_private, write_private
from unchained.node.base.randomness import SYSTEM
from unchained.node.notify.command_target import CommandTarget
from unchained.node.notify.notice import NoticeTarget
from unchained.node.notify.url_target import HttpPoster, UrlTarget

SECRET_BYTES_MIN: Final = 16
SECRET_BYTES_MAX: Final = 4_096
"""Bytes of a secret: what is shorter can be guessed."""


class NotifySecretError(Exception):
    """The file of the secret cannot be used; the message is one line without what it holds."""


def notice_targets(
    config: NotifyConfig, clock: Clock, log: FilteringBoundLogger
) -> list[NoticeTarget]:
    """Return the targets that the settings name; blocks.

    Raises `BadCommandError`, `NotifySecretError`.
    """
    targets: list[NoticeTarget] = []
    if config.command:
        targets.append(
            CommandTarget(config.command, most=config.commands, seconds=config.command_s, log=log)
        )
    if config.url:
        secret = None
        if config.secret_file:
            secret = notify_secret(Path(config.secret_file).expanduser())
        targets.append(
            UrlTarget(config.url, secret=secret, poster=HttpPoster(), clock=clock, log=log)
        )
    return targets


def notify_secret(path: Path) -> bytes:
    """Return the secret in a file, made if there is none. Raises `NotifySecretError`."""
    try:
        with suppress(FileExistsError):
            if not path.exists():
                write_private(path, SYSTEM.token_bytes(32).hex().encode() + b"\n", replace=False)
        content = read_private(path, SECRET_BYTES_MAX).strip()
    except OSError as error:
        raise NotifySecretError(f"{path}: {error.strerror}") from None
    if not SECRET_BYTES_MIN <= len(content) <= SECRET_BYTES_MAX:
        raise NotifySecretError(
            f"{path}: a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, got "
            f"{len(content)}"
        )
    return content

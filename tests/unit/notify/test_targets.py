"""Whom the settings have told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.framework.wallet_node import CapturedLog
from unchained.node.base.clock import SystemClock
from unchained.node.base.config import NotifyConfig
from unchained.node.notify.command_target import BadCommandError
from unchained.node.notify.targets import NotifySecretError, notice_targets, notify_secret


def test_a_secret_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = notify_secret(path)
    assert len(secret) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert notify_secret(path) == secret


def test_a_secret_that_others_read_or_that_is_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o644)
    path.write_text("x" * 40)
    with pytest.raises(NotifySecretError, match="chmod 600"):
        notify_secret(path)
    path.chmod(0o600)
    path.write_text("hunter2")
    with pytest.raises(NotifySecretError, match="16 to 4096 bytes, got 7") as caught:
        notify_secret(path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(NotifySecretError, match="No such file"):
        notify_secret(tmp_path / "none" / "secret")


async def test_targets_are_those_of_the_settings() -> None:
    def names(**keys: object) -> list[str]:
        config = NotifyConfig(**keys)  # type: ignore[arg-type]
        return [one.name for one in notice_targets(config, SystemClock(), CapturedLog().logger())]

    assert names() == []
    assert names(command=("/bin/true", "%s"), url="https://a.example") == ["command", "url"]
    with pytest.raises(BadCommandError):
        names(command=("/bin/true", "100%"))

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.cli import main
from unchained.node.cli.asker import Asker


@pytest.mark.parametrize("command", ["invoice", "address", "paycode"])
def test_where_no_picture_can_be_written_the_node_is_asked_for_nothing(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Asker, "call_with", lambda _, *given, **__: asked.append(given))
    file = tmp_path / "qr.png"
    file.write_bytes(b"another")
    for png in (tmp_path / "none" / "qr.png", file):
        assert main.run(["wallet", command, "--png", str(png)]) == 1
    assert asked == []
    err = capsys.readouterr().err
    assert "there is no directory" in err
    assert "is there already, name another file" in err
    assert file.read_bytes() == b"another"

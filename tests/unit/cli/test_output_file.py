from __future__ import annotations

import stat
from pathlib import Path

import pytest

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.output_file import check_output, write_output


def test_on_a_terminal_a_file_is_replaced_by_who_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "receipt"
    check_output(file)
    check_output(Path("/dev/null"))
    file.touch()
    with pytest.raises(CommandFailedError, match="is there already, name another file"):
        check_output(file)  # nobody is there to be asked
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("unchained.node.cli.output_file.ask_yes", lambda _: True)
    check_output(file)
    monkeypatch.setattr("unchained.node.cli.output_file.ask_yes", lambda _: False)
    with pytest.raises(CommandFailedError, match="is there already"):
        check_output(file)


def test_a_place_where_nothing_can_be_written_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="is a directory"):
        check_output(tmp_path)
    with pytest.raises(CommandFailedError, match=r"no directory .*none to write file in"):
        check_output(tmp_path / "none" / "file")
    with pytest.raises(CommandFailedError, match="too long"):
        check_output(tmp_path / ("x" * 300))
    with pytest.raises(CommandFailedError, match="Is a directory"):
        write_output(tmp_path, b"")


def test_a_secret_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    write_output(tmp_path / "open", b"1")
    write_output(tmp_path / "view", b"2", private=True)
    assert stat.S_IMODE((tmp_path / "view").stat().st_mode) == 0o600
    assert (tmp_path / "view").read_bytes() == b"2"

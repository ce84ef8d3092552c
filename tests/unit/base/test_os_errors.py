"""What the operating system refused is one line that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.base.os_errors import os_error_line


def test_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / "none").open()
    assert os_error_line(caught.value) == f"{tmp_path}/none: No such file or directory"
    with pytest.raises(OSError) as caught:
        (tmp_path / "none").rename(tmp_path / "other")
    both = f"{tmp_path}/none to {tmp_path}/other"
    assert os_error_line(caught.value) == f"{both}: No such file or directory"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("pipe\nburst"), "pipe burst"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_without_a_file_the_reason_stands_alone(error: OSError, line: str) -> None:
    assert os_error_line(error) == line

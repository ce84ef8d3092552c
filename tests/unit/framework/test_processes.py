"""The files of nodes: left where something failed, and nowhere else."""

from __future__ import annotations

import shutil

import pytest

from tests.framework.processes import NodeHome, node_home


def end_by(error: type[BaseException], homes: list[NodeHome]) -> None:
    with node_home() as home:
        homes.append(home)
        home.data_dir().mkdir()
        raise error


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_what_somebody_stops(
    stopped: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    homes: list[NodeHome] = []
    with pytest.raises(stopped):
        end_by(stopped, homes)
    assert not homes[0].path.exists()
    assert capsys.readouterr().out == ""


def test_nothing_is_left_of_what_goes_well() -> None:
    with node_home() as home:
        home.data_dir().mkdir()
    assert not home.path.exists()


def test_what_fails_is_left_and_it_is_said_where(capsys: pytest.CaptureFixture[str]) -> None:
    homes: list[NodeHome] = []
    with pytest.raises(AssertionError):
        end_by(AssertionError, homes)
    (home,) = homes
    assert home.data_dir().exists()
    assert f"the nodes' files are kept: ls -R {home.path}" in capsys.readouterr().out
    shutil.rmtree(home.path)

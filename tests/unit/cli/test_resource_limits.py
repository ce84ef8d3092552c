"""A process that is allowed too little says so, and takes what it is allowed."""

from __future__ import annotations

import resource

import pytest

from unchained.node.cli import main
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.resource_limits import OPEN_FILES_WANTED, make_room

Limits = dict[int, tuple[int, int]]

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Stand in for the system's limits."""
    held = {resource.RLIMIT_NOFILE: UNLIMITED, resource.RLIMIT_AS: UNLIMITED}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: held[kind])
    monkeypatch.setattr(resource, "setrlimit", held.__setitem__)
    return held


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (UNLIMITED, UNLIMITED),
        ((1_024, 1_024), (1_024, 1_024)),
        ((64, 64), (64, 64)),
        ((256, 1_024), (1_024, 1_024)),
        ((1_024, 524_288), (OPEN_FILES_WANTED, 524_288)),
        ((1_024, resource.RLIM_INFINITY), (OPEN_FILES_WANTED, resource.RLIM_INFINITY)),
        ((8_192, 524_288), (8_192, 524_288)),
    ],
)
def test_as_many_descriptors_are_taken_as_are_allowed(
    limits: Limits, given: tuple[int, int], taken: tuple[int, int]
) -> None:
    limits[resource.RLIMIT_NOFILE] = given
    make_room()
    assert limits[resource.RLIMIT_NOFILE] == taken


def test_too_few_descriptors_are_one_line(limits: Limits) -> None:
    limits[resource.RLIMIT_NOFILE] = (32, 63)
    with pytest.raises(CommandFailedError, match=r"may open 63 files.*ulimit -n"):
        make_room()


def test_too_little_memory_is_one_line(limits: Limits) -> None:
    limits[resource.RLIMIT_AS] = (1 << 30, resource.RLIM_INFINITY)
    make_room()
    limits[resource.RLIMIT_AS] = ((1 << 30) - 1, resource.RLIM_INFINITY)
    with pytest.raises(CommandFailedError, match=r"1023 MiB of memory.*ulimit -v"):
        make_room()


def test_a_node_is_not_begun_on_too_little(
    limits: Limits, capsys: pytest.CaptureFixture[str]
) -> None:
    limits[resource.RLIMIT_NOFILE] = (16, 16)
    assert main.run(["start", "--network", "reg"]) == 1
    assert capsys.readouterr().err.startswith("unchained-node: this process may open 16 files")


def test_memory_that_runs_out_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out() -> None:
        raise MemoryError

    monkeypatch.setattr(main, "command_line", run_out)
    assert main.run(["status"]) == 1
    assert capsys.readouterr().err == "unchained-node: out of memory\n"

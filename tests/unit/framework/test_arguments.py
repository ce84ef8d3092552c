"""What the scripts refuse in one line, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.framework import benchmarks
from tests.framework.mutation import command as mutation
from tests.framework.simulation import command as simulation
from tests.framework.torture import command as torture
from tests.fuzz import command as fuzz

Command = Callable[[Sequence[str]], int]

NOWHERE = "/nonexistent/x"


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [
        (
            torture.run,
            ["--times", "0"],
            "torture: argument --times: 0, expected a whole number, 1 or more",
        ),
        (
            torture.run,
            ["kill", "--times", "many"],
            "torture: argument --times: 'many', expected a whole number, 1 or more",
        ),
        (
            torture.run,
            ["--json", NOWHERE],
            f"torture: argument --json: {NOWHERE}: there is no folder /nonexistent",
        ),
        (
            torture.run,
            ["--json", "/usr"],
            "torture: argument --json: /usr is a folder, expected a file",
        ),
        (
            simulation.main,
            ["storm", "--record", NOWHERE],
            f"simulate: argument --record: {NOWHERE}: there is no folder /nonexistent",
        ),
        (
            simulation.main,
            ["--count", "0"],
            "simulate: argument --count: 0, expected a whole number, 1 or more",
        ),
        (
            simulation.main,
            ["--hours", "inf"],
            "simulate: argument --hours: 'inf', expected a number above 0",
        ),
        (
            simulation.main,
            ["--hours", "1", "--count", "2"],
            "simulate: --count does nothing beside --hours",
        ),
        *(
            (
                simulation.main,
                ["--replay", NOWHERE, *ignored],
                f"simulate: {name} does nothing beside --replay: the recording says it all",
            )
            for name, ignored in [
                ("NAME", ["storm"]),
                ("--seed", ["--seed", "0"]),
                ("--count", ["--count", "2"]),
                ("--hours", ["--hours", "1"]),
                ("--tries", ["--tries", "0"]),
                ("--hash", ["--hash"]),
                ("--states", ["--states"]),
            ]
        ),
        (fuzz.main, ["--hours", "0"], "fuzz: argument --hours: '0', expected a number above 0"),
        (fuzz.main, ["--publish"], "fuzz: --publish does nothing without --coverage"),
        (
            fuzz.main,
            ["--coverage", "codec", "--publish"],
            "fuzz: NAME does nothing beside --coverage",
        ),
        (
            mutation.main,
            ["--sample", "0"],
            "mutate: argument --sample: 0, expected a whole number, 1 or more",
        ),
        (mutation.main, ["--seed", "2"], "mutate: --seed does nothing without --sample"),
        (mutation.main, ["--command", "true"], "mutate: --command does nothing without --planted"),
        (
            mutation.main,
            ["--planted", "--room", "chain"],
            "mutate: --room does nothing beside --planted",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    command: Command, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        command(words)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"scripts/{line}\n")


def test_mutants_of_a_file_that_is_none_are_not_said_to_be_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert mutation.main(["--file", "node/consensus/nothing.py"]) == 2
    assert capsys.readouterr().err == (
        "mutate: node/consensus/nothing.py is no file of the rooms that mutants are of\n"
    )


def test_the_help_of_the_fuzzer_tells_of_all_that_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        fuzz.main(["--help"])
    said = capsys.readouterr().out
    assert {word for word in ("--coverage", "--publish", "kernel") if word in said} == {
        "--coverage",
        "--publish",
        "kernel",
    }


@pytest.mark.parametrize("command", [benchmarks.main, fuzz.main, mutation.main, torture.run])
def test_the_help_tells_of_the_exit_codes(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        command(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    _, _, codes = said.partition("Exit code: 0 if ")
    assert "; 1 if " in codes
    assert codes.endswith("; 2 for words that it cannot act upon; 130 after Ctrl-C.")


def test_a_replay_takes_what_it_acts_upon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    words = ["--replay", str(missing), "--record", str(tmp_path / "again")]
    assert simulation.main(words) == 2
    assert "No such file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

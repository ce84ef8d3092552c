"""The command line of the attacks: what it refuses, says, records and leaves when interrupted."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.framework.checkout import UNKNOWN
from tests.framework.economics import command, records
from tests.framework.economics.command import added_up, main, run_for, tell
from tests.framework.economics.experiments import EXPERIMENTS, TAKES
from tests.framework.economics.figures import Figure, Outcome, Sums
from tests.framework.economics.options import WORDS
from tests.framework.economics.plan import PLAN, Row
from tests.framework.economics.records import commit_of, key_of, load, save
from tests.framework.economics.shared import Parameters
from tests.framework.progress_line import ProgressLine


def test_runs_of_several_seeds_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def one(parameters: Parameters, seed: int) -> Outcome:
        seeds.append(seed)
        sums = Sums()
        sums.add_cases(1, 4)
        return Outcome("honest", {}, [Figure("found", sums)], {"coins": 4, "most undone": seed})

    times = iter((0.0, 1.0, 2.0, 3601.0))
    monkeypatch.setitem(EXPERIMENTS, "honest", one)
    monkeypatch.setattr("tests.framework.economics.command.time.monotonic", lambda: next(times))
    shown: list[Outcome] = []
    added_up(run_for(Row("honest", Parameters(4), 7), 1.0), shown.append)
    (outcome,) = shown
    assert seeds == [7, 8, 9]
    assert (outcome.figures[0].sums.count, outcome.figures[0].sums.mean) == (12, 0.25)
    assert outcome.counts == {"coins": 12, "most undone": 9}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "no experiment nothing: expected one of "),
        ([], "no experiment named, expected NAME, --record or --document"),
        (["honest", "--hours", "0"], "argument --hours: '0', expected a number above 0"),
        (["race", "--share", "1"], "--share 1, expected a part of the hash power, below 1"),
        (["race", "--share", "-.1"], "argument --share: '-.1', expected a number, 0 or more"),
        (["honest", "--size", "0"], "argument --size: 0, expected a whole number, 1 or more"),
        (["honest", "--miners", "0"], "argument --miners: 0, expected a whole number, 1 or more"),
        (["honest", "--delay", "-1"], "argument --delay: '-1', expected a number, 0 or more"),
        (["honest", "--delay", "nan"], "argument --delay: 'nan', expected a number, 0 or more"),
        (
            ["honest", "--neighbours", "-1"],
            "argument --neighbours: -1, expected a whole number, 0 or more",
        ),
        (["juggle", "--patience", "inf"], "argument --patience: 'inf', expected a number"),
        (["cut", "--length", "-1"], "argument --length: '-1', expected a number, 0 or more"),
        (["race", "--share", ".25", "--score", "best"], "--score best, expected one of shipping, "),
        (
            ["race", "--leans"],
            "--leans with --share 0, expected a part of the hash power above 0 and below 0.5",
        ),
        (["race", "--ripe", "-1"], "argument --ripe: -1, expected a whole number, 0 or more"),
        (
            ["race", "--share", ".25", "--bait", "--score", "ghost"],
            "--bait goes by the score that ships, expected no --score",
        ),
        (
            ["race", "--share", ".25", "--returns", "--score", "ghost"],
            "--returns goes by the score that ships, expected no --score",
        ),
        (["race", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (
            ["withholding", "--share", ".3", "--lists", "some"],
            "--lists some, expected one of own, first, fresh, all",
        ),
        (
            ["race", "--share", ".25", "--search", "3"],
            "--search of race, expected one of withholding, snipe",
        ),
        (["snipe", "--share", ".25", "--search", "3"], "--search of snipe takes --pool: "),
        (
            ["withholding", "--share", ".3", "--search", "3", "--hoards"],
            "--hoards does nothing beside --search, which draws it",
        ),
        (
            ["withholding", "--share", ".3", "--search", "3", "--json"],
            "--json does nothing beside --search",
        ),
        (
            ["withholding", "--share", ".3", "--search", "3", "--hours", "1"],
            "--hours does nothing beside --search",
        ),
        (["snipe", "--pool", "-1"], "argument --pool: '-1', expected a number, 0 or more"),
        (["dead", "--height", "0"], "argument --height: 0, expected a whole number, 1 or more"),
        (
            ["withholding", "--search", "0"],
            "argument --search: 0, expected a whole number, 1 or more",
        ),
        (
            ["withholding", "--share", ".5", "--attackers", "2"],
            "--attackers 2 of --share 0.5 each have 1 of the hash power, expected less than all",
        ),
        (
            ["honest", "--verification", "-1"],
            "argument --verification: '-1', expected a number, 0 or more",
        ),
        (
            ["withholding", "--share", ".3", "--spam", "4"],
            "--spam takes --verification: what nobody verifies is no spam",
        ),
        (
            [
                "withholding",
                "--share",
                ".3",
                "--spam",
                "4",
                "--verification",
                ".01",
                "--late-bodies",
            ],
            "--spam and --late-bodies are two policies, expected one of them",
        ),
        (["withholding", "--share", ".3", "--score", "ghost"], "withholding takes no --score"),
        (["bomb", "--share", ".25", "--retarget"], "bomb takes no --retarget"),
        (["bomb", "--share", ".25", "--patience", "4"], "bomb takes no --patience"),
        (["juggle", "--share", ".25", "--retarget"], "juggle takes no --retarget"),
        (["race", "--share", ".25", "--retarget"], "race takes no --retarget"),
        (["snipe", "--share", ".25", "--retarget"], "snipe takes no --retarget"),
        (["cut", "--share", ".25"], "cut takes no --share"),
        (["race", "--size", "4"], "race takes --share: an attacker of no power says nothing"),
        (["race", "dead", "--share", ".25", "--leans"], "dead takes no --leans"),
        (["snipe", "--share", ".25", "--late-bodies"], "snipe takes no --late-bodies"),
        (["race", "--afresh"], "--afresh does nothing without --record"),
        (["--record", "--document"], "--record does nothing beside --document"),
        (["--record", "--seed", "1"], "--seed does nothing beside --record: the plan says it all"),
        (
            ["--record", "--share", ".25"],
            "--share does nothing beside --record: the plan says it all",
        ),
        (["--record", "--leans"], "--leans does nothing beside --record: the plan says it all"),
        (["--record", "--json"], "--json does nothing beside --record: the plan says it all"),
        (
            ["--record", "--hours", "1"],
            "--hours does nothing beside --record: the plan says it all",
        ),
        (["--document", "race"], "NAME does nothing beside --document"),
        (["--document", "--size", "4"], "--size does nothing beside --document"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"scripts/attack: {told}")
    assert not said.out


def test_nothing_is_played_if_one_of_several_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[int] = []
    monkeypatch.setitem(EXPERIMENTS, "race", lambda _, seed: played.append(seed))
    with pytest.raises(SystemExit):
        main(["race", "dead", "--share", ".25", "--leans"])
    assert "dead takes no --leans" in capsys.readouterr().err
    assert not played


def test_each_parameter_has_words_and_says_who_takes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(WORDS) == set(Parameters.__struct_fields__)
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, (_, words) in WORDS.items():
        assert f"--{name.replace('_', '-')} " in told
        takers = [one for one in EXPERIMENTS if name in TAKES[one]]
        who = "all" if len(takers) == len(EXPERIMENTS) else ", ".join(takers)
        assert f"{words} ({who}" in told


@pytest.mark.parametrize("words", [["honest", "--size", "4"], ["race", "--size", "4"]])
def test_a_run_says_every_ten_seconds_how_far_it_is(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(0.0, 4.0)
    line = ProgressLine(lambda: next(clock))
    monkeypatch.setattr("tests.framework.economics.progress.monotonic", lambda: next(clock))
    monkeypatch.setattr("tests.framework.progress_line.PROGRESS", line)
    assert main([*words, "--share", ".25"][: None if words[0] == "race" else 3]) == 0
    lines = capsys.readouterr().err.splitlines()
    what = "attempts" if words[0] == "race" else "epochs"
    assert lines[0] == f"{words[0]}, seed 1: {0 if what == 'epochs' else 1} of 4 {what} after 12 s"
    assert len(lines) == 1 or lines[1].endswith(" after 24 s")


def test_a_run_is_told_with_the_models_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["honest", "--size", "20", "--delay", "0.05", "--miners", "4"]) == 0
    told = capsys.readouterr().out
    assert "epochs with a fork" in told
    assert "model 4.20 %" in told


def _interrupted(of: int) -> Iterator[Outcome]:
    """So many runs, and Ctrl-C in the next."""
    for seed in range(3, 3 + of):
        yield Outcome("race", {"size": 500, "share": 0.25}, [], {"coins": 4}, seed=seed)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("of", "heading", "note"),
    [
        (0, "", "no run was through"),
        (1, "race, seed 3: 500 attempts, share 0.25", "told is what 1 run gave"),
        (3, "race, seeds 3 to 5: 1,500 attempts in 3 runs, share 0.25", "told is what 3 runs gave"),
    ],
)
def test_ctrl_c_leaves_the_sum_of_the_runs_that_were_through(
    of: int, heading: str, note: str
) -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt) as caught:
        added_up(_interrupted(of), lambda outcome: told.append(tell(outcome).splitlines()[0]))
    assert told == [heading] * (of > 0)
    assert caught.value.__notes__ == [note]


def test_who_mines_alone_has_no_model_of_forks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["honest", "--size", "20", "--delay", "0.05", "--miners", "1"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("honest, seed 1: 20 epochs, delay 0.05, miners 1\n")
    assert "model" not in told


def _recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: Sequence[Row]) -> list[int]:
    """Let what there is to record be these rows, and their runs be none; return the seeds of what
    is run then. A negative seed is interrupted."""
    ran: list[int] = []

    def one(parameters: Parameters, seed: int) -> Outcome:
        if seed < 0:
            raise KeyboardInterrupt
        ran.append(seed)
        return Outcome("honest", {"size": parameters.size}, [], {})

    monkeypatch.setitem(EXPERIMENTS, "honest", one)
    monkeypatch.setattr(command, "PLAN", rows)
    monkeypatch.setattr(command, "SMALL", ())
    monkeypatch.setattr(command, "commit_of", lambda: UNKNOWN)
    monkeypatch.setattr(command, "write_document", lambda plan: [])
    path = tmp_path / "data.json"
    monkeypatch.setattr(command, "load", partial(load, path))
    monkeypatch.setattr(command, "save", partial(save, path=path))
    return ran


def test_recording_says_what_it_did_and_that_there_is_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("honest", Parameters(4), seed) for seed in (1, 2)]
    ran = _recorder(monkeypatch, tmp_path, rows)
    assert main(["--record"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "2 runs recorded, of commit unknown",
        "tables and plots are as recorded",
    ]
    kept = json.loads((tmp_path / "data.json").read_text())
    assert [set(one) for one in kept.values()] == [
        {"name", "parameters", "figures", "counts", "cpu_s", "commit"}
    ] * 2
    assert main(["--record"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing to record: of 2 runs none is lacking; --afresh runs them again",
        "tables and plots are as recorded",
    ]
    assert ran == [1, 2]
    assert main(["--record", "--afresh", "honest"]) == 0
    assert ran == [1, 2, 1, 2]


def test_ctrl_c_leaves_what_was_recorded_by_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [Row("honest", Parameters(4), seed) for seed in (1, -1)]
    _recorder(monkeypatch, tmp_path, rows)
    with pytest.raises(KeyboardInterrupt) as caught:
        main(["--record"])
    assert caught.value.__notes__ == ["1 of 2 runs recorded"]
    assert list(load(tmp_path / "data.json")) == [key_of(rows[0])]


def test_the_document_is_written_only_where_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = tmp_path / "document.md"
    text.write_text(records.DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(records, "DOCUMENT", text)
    monkeypatch.setattr(records, "PLOT", tmp_path / "plot-{}.svg")
    plots = [tmp_path / f"plot-{name}.svg" for name in ("honest", "withholding", "race")]
    assert records.write_document(PLAN) == plots
    assert records.write_document(PLAN) == []
    plots[1].write_text("another")
    assert records.write_document(PLAN) == plots[1:2]


def test_without_git_the_commit_is_unknown(tmp_path: Path) -> None:
    # A repository around a source archive is another's.
    subprocess.run(["git", "-C", str(tmp_path), "init", "--quiet"], check=True)
    archive = tmp_path / "archive"
    archive.mkdir()
    assert commit_of(archive) == UNKNOWN
    (archive / "bin").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(archive / "bin"))
        assert commit_of(tmp_path) == UNKNOWN


def test_a_recorded_row_names_the_commit_and_whether_the_code_differs(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "first")
    clean = commit_of(tmp_path)
    assert len(clean) == 40
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/data.json").touch()
    assert commit_of(tmp_path) == clean
    (tmp_path / "node").mkdir()
    (tmp_path / "node/changed.py").touch()
    assert commit_of(tmp_path) == f"{clean} with changes"

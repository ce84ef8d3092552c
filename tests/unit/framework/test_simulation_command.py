"""The command line of simulations: what it runs, says, keeps and returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.framework.mutation.planted import _CUT_DOWN
from tests.framework.simulation import command
from tests.framework.simulation.command import ANOTHER_RUN, Kept, keep_failure, main, tell_failure
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.recording import load, record, save
from tests.framework.simulation.scenario import SCENARIOS, Scenario
from tests.framework.simulation.schedule import Fault, Schedule
from tests.framework.simulation.sightings import Sightings

CRASHES = tuple(
    Fault(1_000 * at, "crash", {"node": 1, "steps": 0, "down_ms": 1_000}) for at in range(9)
)
LOST = "node 1 has lost all"


def outcome_of(
    name: str, seed: int, schedule: Schedule = (), failure: str = "", run: str = "0"
) -> Outcome:
    return Outcome(
        SCENARIOS[name], seed, schedule, failure, trace="", hash=run * 64, start_ms=0, nodes=(),
        seconds=1_800.0, cpu_s=2.0, height=3, sightings=Sightings(), events=(), coins={}, bodies={},
    )  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the scenarios that were run: seed 13 fails, whatever befalls it; seed 99 is
    interrupted."""
    names: list[str] = []

    def run(scenario: Scenario, seed: int, schedule: Schedule, until_s: float = 0.0) -> Outcome:
        if seed == 99:
            raise KeyboardInterrupt
        names.append(scenario.name)
        return outcome_of(scenario.name, seed, tuple(schedule), LOST if seed == 13 else "")

    monkeypatch.setattr(command, "run_once", run)
    monkeypatch.setattr(command, "draw_schedule", lambda scenario, seed: CRASHES[:2])
    monkeypatch.setattr(keep_failure, "__defaults__", (tmp_path, 60))
    return names


def test_without_a_name_what_the_help_says_is_run_and_one_line_sums_it_up(
    ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "9 simulations held; 18 faults, 4.50 virtual h in 18.0 CPU s"
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"without, {', '.join(ran)}: " in told
    assert set(SCENARIOS) - set(ran) == {"calm", "main-calm", "crowd"}
    assert all(f" {code} " in told for code in (0, 1, 2, ANOTHER_RUN, 130))
    document = Path(__file__).parents[3] / "docs/simulation.md"
    assert f"| {ANOTHER_RUN} |" in document.read_text(encoding="utf-8")


@pytest.mark.usefixtures("ran")
def test_the_last_line_says_which_simulations_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storm", "calm", "--seed", "12", "--count", "2"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "2 of 4 simulations failed: storm --seed 13, calm --seed 13; "
        "8 faults, 2.00 virtual h in 8.0 CPU s"
    )


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize("words", [["storm"], ["storm", "calm", "--hash"]])
def test_one_simulation_and_hashes_need_no_sum(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--seed", "1"]) == 0
    assert "simulations" not in capsys.readouterr().out


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(
    ("first", "note"),
    [
        ("99", "no simulation was through"),
        ("98", "1 simulation held; 2 faults, 0.50 virtual h in 2.0 CPU s"),
    ],
)
def test_ctrl_c_tells_what_was_through(first: str, note: str) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        main(["storm", "--seed", first, "--count", "5"])
    assert caught.value.__notes__ == [note]


def replay(monkeypatch: pytest.MonkeyPatch, path: Path, seen: Outcome, was: Outcome) -> int:
    save(record(was), path)
    monkeypatch.setattr(command, "run_once", lambda *_: seen)
    return main(["--replay", str(path)])


@pytest.mark.parametrize(
    ("seen", "was", "code", "said"),
    [
        (("", "0"), ("", "0"), 0, ""),
        ((LOST, "0"), (LOST, "0"), 1, ""),
        ((LOST, "1"), ("", "0"), 1, "another run than the recorded one, hash 0000000000000000, "),
        (("", "1"), (LOST, "0"), ANOTHER_RUN, ", which failed: the code is not what it was then\n"),
        (("", "1"), ("", "0"), ANOTHER_RUN, ", which held: the code is not what it was then\n"),
    ],
)
def test_a_replay_says_by_its_code_whether_it_was_the_recorded_run(
    seen: tuple[str, str],
    was: tuple[str, str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcomes = [outcome_of("calm", 3, (), *one) for one in (seen, was)]
    assert replay(monkeypatch, tmp_path / "calm.json", outcomes[0], outcomes[1]) == code
    errors = capsys.readouterr().err
    assert said in errors
    assert bool(errors) == bool(said)


def test_a_recording_of_fewer_faults_is_not_replaced_by_one_of_more(tmp_path: Path) -> None:
    cut = outcome_of("storm", 21, CRASHES[:1], LOST)
    _, first = keep_failure(cut, tmp_path, 0)
    assert first == Kept(tmp_path / "storm-21.json", None, was_cut=False)

    whole = outcome_of("storm", 21, CRASHES, "node 7 has lost all")
    _, kept = keep_failure(whole, tmp_path, 0)
    assert kept == Kept(tmp_path / "storm-21-9-faults.json", first.path, was_cut=False)
    assert load(first.path) == record(cut)
    assert load(kept.path) == record(whole)
    assert (
        f"  an earlier one, of fewer faults, is left as it is: {first.path}"
        in tell_failure(whole, kept).splitlines()
    )


@pytest.mark.parametrize(
    "other",
    [
        outcome_of("storm", 21, CRASHES, "no wallet opens"),
        outcome_of("storm", 21, CRASHES[2:3], LOST),
        msgspec.structs.replace(
            outcome_of("storm", 21, CRASHES, LOST),
            scenario=msgspec.structs.replace(SCENARIOS["storm"], epochs=3),
        ),
    ],
)
def test_any_other_recording_is_replaced(other: Outcome, tmp_path: Path) -> None:
    keep_failure(outcome_of("storm", 21, CRASHES[:1], LOST), tmp_path, 0)
    _, kept = keep_failure(other, tmp_path, 0)
    assert kept.path == tmp_path / "storm-21.json"
    assert load(kept.path) == record(other)


def test_a_file_that_is_no_recording_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "storm-21.json").write_text("{")
    outcome = outcome_of("storm", 21, CRASHES, LOST)
    _, kept = keep_failure(outcome, tmp_path, 0)
    assert load(kept.path) == record(outcome)


def test_ctrl_c_keeps_the_fewest_faults_that_were_found_by_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[int] = []

    def run(_scenario: object, _seed: int, schedule: Sequence[Fault], _until_s: float) -> Outcome:
        runs.append(len(schedule))
        if len(runs) == 4:
            raise KeyboardInterrupt
        return outcome_of("storm", 21, tuple(schedule), LOST if schedule else "")

    monkeypatch.setattr(command, "run_once", run)
    with pytest.raises(KeyboardInterrupt):
        keep_failure(outcome_of("storm", 21, CRASHES, LOST), tmp_path)
    recording = load(tmp_path / "storm-21.json")
    assert len(recording.schedule) == runs[2] < len(CRASHES)


@pytest.mark.parametrize(
    ("faults", "was_cut", "line"),
    [
        (0, True, "  scenario storm, seed 21, cut down to 0 faults: it fails without any"),
        (1, True, "  scenario storm, seed 21, cut down to 1 fault:"),
        (9, True, "  scenario storm, seed 21, cut down to 9 faults:"),
        (0, False, "  scenario storm, seed 21, without any fault"),
        (1, False, "  scenario storm, seed 21, 1 fault, not cut down:"),
        (9, False, "  scenario storm, seed 21, 9 faults, not cut down:"),
    ],
)
def test_a_failure_is_told_with_how_many_faults_it_takes(
    faults: int, was_cut: bool, line: str
) -> None:
    outcome = outcome_of("storm", 21, CRASHES[:faults], LOST)
    told = tell_failure(outcome, Kept(Path("storm-21.json"), None, was_cut))
    assert told.splitlines()[1] == line
    found = _CUT_DOWN.search(told)
    assert (found is not None) == was_cut
    assert found is None or int(found[3]) == faults

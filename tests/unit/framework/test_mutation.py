"""scripts/mutate, on a project of one small module."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.framework.mutation import command, planted, published, samples
from tests.framework.mutation.catalogue import (
    ROOMS,
    all_mutants,
    changed_lines,
    files_of,
    is_changed,
    is_strict,
)
from tests.framework.mutation.coverage_map import CoverageMap, MapMaker, find_tests
from tests.framework.mutation.mutants import Mutant, mutants_of
from tests.framework.mutation.report import OUTCOMES, PUBLISHED, REASONS, Report, read_json
from tests.framework.mutation.tester import Limits, MutationTester, Verdict
from tests.framework.mutation.tiers import tiers_of
from tests.framework.mutation.tree_copy import copy_tree

FILE = "node/consensus/tiny.py"
TEST_FILE = "tests/unit/test_tiny.py"
TINY = """\
LIMIT = 10

def is_within(value: int) -> bool:
    return value < LIMIT

def count_down(value: int) -> int:
    steps = 0
    while value > 0:
        value -= 1
        steps += 1
    return steps

def untested(value: int) -> int:
    return value + 7
"""
JUDGED = {
    f"{FILE}::{each}"
    for each in (
        "<module>::constant-minus-1::0",
        "<module>::constant-plus-1::0",
        "is_within::lt-to-le::0",
        "is_within::negate::0",
        "count_down::write-left-out::0",
        "untested::add-to-sub::0",
    )
}
TESTS = """\
from unchained.node.consensus.tiny import count_down, is_within

def test_within() -> None:
    assert is_within(9)
    assert not is_within(11)

def test_count() -> None:
    assert count_down(3) == 3
"""


def tiny_project(root: Path, source: str = TINY, tests: str = TESTS) -> Path:
    for folder in ("node/consensus", "tests/unit"):
        (root / folder).mkdir(parents=True)
    (root / "node/__init__.py").touch()
    (root / "node/consensus/__init__.py").touch()
    (root / FILE).write_text(source)
    (root / TEST_FILE).write_text(tests)
    (root / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = "--import-mode=importlib"\n'
    )
    return root


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """What became of some mutants of the small module, by id without its file."""
    folder = tmp_path_factory.mktemp("mutation")
    root = tiny_project(folder / "project")
    tree = copy_tree(root, folder / "tree")
    files = find_tests(tree, ["tests/unit"])
    maps = MapMaker(tree, [FILE], folder / "cache").make(files, folder, 1, print)
    tester = MutationTester(tree, CoverageMap(tree, maps, [FILE]), folder, Limits(extra_s=1.0), ())
    mutants = [mutant for mutant in mutants_of(FILE, TINY) if mutant.id in JUDGED]
    found = tester.run(mutants, 1, float("inf"), lambda verdict: None)
    assert (root / FILE).read_text() == TINY, "the working tree is as it was"
    return {verdict.mutant.id.removeprefix(f"{FILE}::"): verdict for verdict in found}


def test_a_mutant_that_a_test_notices_is_killed(verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts["is_within::negate::0"]
    assert verdict.outcome == "killed"
    assert verdict.by == f"{TEST_FILE}::test_within"
    assert verdict.tests == 1, "only the test that runs the line"
    assert verdict.served, "its code was put in place, not imported"


def test_a_mutant_that_no_test_notices_survives(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["is_within::lt-to-le::0"].outcome == "survived"


def test_a_mutant_that_hangs_is_told_from_one_that_is_killed(verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts["count_down::write-left-out::0"]
    assert verdict.outcome == "timeout"
    assert verdict.by == f"{TEST_FILE}::test_count"


def test_a_mutant_that_no_test_runs_is_unreached(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["untested::add-to-sub::0"].outcome == "unreached"


def test_what_runs_at_import_is_imported(verdicts: dict[str, Verdict]) -> None:
    # 9 is within the limit only as long as that is not 9.
    killed, survived = (
        verdicts["<module>::constant-minus-1::0"],
        verdicts["<module>::constant-plus-1::0"],
    )
    assert (killed.outcome, survived.outcome) == ("killed", "survived")
    assert not killed.served
    assert not survived.served


def test_a_map_is_made_anew_only_if_something_that_it_rests_on_changes(tmp_path: Path) -> None:
    root = tiny_project(tmp_path / "project")

    def make(name: str) -> list[str]:
        told: list[str] = []
        tree = copy_tree(root, tmp_path / name)
        maker = MapMaker(tree, [FILE], tmp_path / "cache")
        maps = maker.make(
            find_tests(tree, ["tests/unit"]), tmp_path / f"{name}-map", 1, told.append
        )
        assert set(maps[TEST_FILE].seconds) == {
            f"{TEST_FILE}::test_within",
            f"{TEST_FILE}::test_count",
        }
        return told

    assert make("first")
    assert not make("second")
    (root / FILE).write_text(TINY + "\nMORE = 1\n")
    assert make("third")


def test_a_mutants_name_does_not_depend_on_where_its_function_stands() -> None:
    def named(source: str) -> dict[str, str]:
        return {mutant.id: mutant.text for mutant in mutants_of(FILE, source)}

    moved = '"""A docstring."""\n\n# A comment.\n' + TINY.replace(
        "def count_down", "def other(value: int) -> int:\n    return value * 2\n\ndef count_down"
    )
    before, after = named(TINY), named(moved)
    assert before.items() <= after.items()
    assert {mutant_id.split("::")[1] for mutant_id in after.keys() - before.keys()} == {"other"}


@pytest.mark.parametrize(
    ("source", "kind", "mutated"),
    [
        ("def f(a, b): return a <= b", "le-to-lt", "return (a < b)"),
        ("def f(a):\n if a in b: pass", "in-to-not-in", "if (a not in b)"),
        ("def f(a):\n if not a: pass", "not-left-out", "if a:"),
        ("def f(a, b): return a and b", "and-to-or", "return (a or b)"),
        ("def f(a, b): return max(a, b)", "max-to-min", "return min(a, b)"),
        ("def f(a, b): return a // b", "div-to-mul", "return (a * b)"),
        ("def f(a): a += 1", "add-to-sub", "a -= 1"),
        ("def f(a):\n raise E(a)", "raise-left-out", "\n pass"),
        ("def f(a):\n a.g(1)", "call-left-out", "\n pass"),
        ("async def f(a):\n await g(1)", "call-left-out", "\n pass"),
        ("def f(a):\n a.x[0] = 1", "write-left-out", "\n pass"),
        ("def f(a) -> int | None: return a", "return-none", "return None"),
        ("def f(a) -> bool: return a", "negate", "return (not a)"),
        ("def f(a): g(a, sync=True)", "true-to-false", "sync=False"),
        ("def f(a):\n for x in (a, g): x()", "element-left-out", "in (g,)"),
        ("def f(a):\n for x in a: continue", "continue-to-break", "break"),
        ("def f(a): return g(a, a.b)", "swap-arguments", "g(a.b, a)"),
        ("A = 3", "constant-minus-1", "A = 2"),
    ],
)
def test_each_kind_of_fault(source: str, kind: str, mutated: str) -> None:
    mutant = next(each for each in mutants_of(FILE, source) if each.kind == kind)
    changed = mutant.apply(source)
    assert mutated in changed
    compile(changed, FILE, "exec")


@pytest.mark.parametrize(
    "source",
    [
        "def f(a):\n assert a == 1, 'one'",
        "def f(a):\n self._log.info('x', count=1)",
        "def f(a):\n return f'{a + 1}'",
        "@cache(maxsize=5)\ndef f(a): ...",
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "while True: ...",
        "__all__ = ['a', 'b']",
        "if TYPE_CHECKING:\n A = 1",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert mutants_of(FILE, source) == []


def test_the_strict_rule_holds_for_consensus_and_what_decides_in_the_chain() -> None:
    assert is_strict("node/consensus/any.py")
    assert is_strict("node/chain/any.py")
    assert is_strict("node/chain/mempool/mempool.py")
    assert not is_strict("node/chain/coin_reads.py")
    assert not is_strict("storage/kv.py")


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def test_only_mutants_in_changed_lines_are_chosen(tmp_path: Path) -> None:
    root = tiny_project(tmp_path)

    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    (root / FILE).write_text(TINY.replace("value + 7", "value + 8"))
    (root / "node/consensus/new.py").write_text("A = 1\n")
    changed = changed_lines(root, "HEAD")
    mutants = mutants_of(FILE, (root / FILE).read_text())
    assert {mutant.scope for mutant in mutants if is_changed(mutant, changed)} == {"untested"}
    assert changed["node/consensus/new.py"] == {1}


def report(outcome: str, reasons: dict[str, str], killed: int, survived: int) -> Report:
    mutant: Mutant = mutants_of(FILE, TINY)[0]
    published = {FILE: dict.fromkeys(OUTCOMES, 0) | {"killed": killed, "survived": survived}}
    verdict = Verdict(mutant, outcome)  # type: ignore[arg-type]
    return Report([verdict], reasons, published, frozenset({FILE}))


def test_a_survivor_needs_a_reason_and_no_share_may_fall() -> None:
    name = mutants_of(FILE, TINY)[0].id
    assert report("killed", {}, 9, 0).passed
    assert not report("survived", {}, 0, 9).passed
    assert not report("unreached", {}, 0, 9).passed
    excused = report("survived", {name: "the same for every value"}, 9, 0)
    assert excused.passed
    assert "the same for every value" in "\n".join(excused.lines({FILE: TINY}))
    assert report("killed", {name: "no"}, 9, 0).idle_reasons == [name]
    assert report("survived", {}, 1, 1).fallen == [FILE]


def test_the_command_tells_survivors_and_keeps_what_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_project(tmp_path / "project")
    (root / "docs/data").mkdir(parents=True)
    kept = tmp_path / "all.json"
    run = [
        "--id",
        f"{FILE}::is_within::lt-to-le",
        "--id",
        f"{FILE}::is_within::negate",
        "-j",
        "1",
        "--json",
        str(kept),
    ]
    assert command.main(run, root) == 1
    told = capsys.readouterr().out
    assert "+    return (value <= LIMIT)" in told
    assert {each["outcome"] for each in json.loads(kept.read_text())["mutants"]} == {
        "killed",
        "survived",
    }
    assert command.main(["--list", "--room", "storage"], root) == 0
    assert not (root / PUBLISHED).exists()


def test_the_modules_own_tests_come_first_and_simulations_last() -> None:
    tests = [
        "tests/property/test_a.py",
        "tests/simulation/test_b.py",
        "tests/unit/consensus/test_c.py",
        "tests/unit/consensus/test_tiny_edges.py",
        "tests/unit/chain/test_tiny.py",
    ]
    assert tiers_of(tests, [FILE]) == [[tests[3]], [tests[2]], [tests[0], tests[4]], [tests[1]]]
    assert tiers_of(tests[:3], [FILE]) == [[tests[2]], [tests[0]], [tests[1]]]
    both = tiers_of(tests, [FILE, "node/chain/mempool/tiny.py"])
    assert both == [tests[3:], [tests[2]], [tests[0]], [tests[1]]]


def test_what_the_nearest_tests_do_not_kill_goes_on_to_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_project(tmp_path)
    far = root / "tests/simulation"
    far.mkdir()
    near = "from unchained.node.consensus.tiny import is_within\n\n"
    (root / "tests/unit/consensus").mkdir()
    (root / TEST_FILE).rename(root / "tests/unit/consensus/test_tiny.py")
    (far / "test_far.py").write_text(
        f"{near}def test_edge() -> None:\n    assert not is_within(10)\n"
    )
    kept = tmp_path / "all.json"
    scope = f"{FILE}::is_within"
    run = ["--id", f"{scope}::negate", "--id", f"{scope}::lt-to-le", "-j", "1"]
    assert command.main([*run, "--json", str(kept)], root) == 0
    by = {row["id"]: row["by"].split("::")[0] for row in json.loads(kept.read_text())["mutants"]}
    assert by == {
        f"{scope}::negate::0": "tests/unit/consensus/test_tiny.py",
        f"{scope}::lt-to-le::0": "tests/simulation/test_far.py",
    }
    near_only = command.main([*run, "--tiers", "1", "--json", str(kept)], root)
    assert near_only == 0
    assert [row["outcome"] for row in json.loads(kept.read_text())["mutants"]] == ["killed"]
    told = capsys.readouterr().out
    assert "1 mutants live that have not met all tests" in told
    assert "tier 1 of 2: 2 mutants" in told
    assert "tier 2 of 2: 1 mutants" in told


def test_what_became_of_a_whole_module_is_published(tmp_path: Path) -> None:
    source = "def double(value: int) -> int:\n    return value + value\n"
    tests = (
        "from unchained.node.consensus.tiny import double\n\n"
        "def test_double() -> None:\n    assert double(3) == 6\n"
    )
    root = tiny_project(tmp_path / "project", source, tests)
    (root / "node/consensus/other.py").write_text("def same(a: int) -> bool:\n    return a == 1\n")
    (root / "docs").mkdir()
    (root / published.TEXT).write_text(
        f"Before.\n{published.BEGIN}\nold\n{published.END}\nAfter.\n"
    )
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    run = ["--publish", "-j", "1", "--file", FILE]
    assert command.main([*run, "--tests", "tests/unit"], root) == 0
    assert json.loads((root / PUBLISHED).read_text()) == {}, "not by all tests"
    assert command.main(run, root) == 0
    kept = json.loads((root / PUBLISHED).read_text())
    assert kept.keys() == {FILE}
    assert {name: kept[FILE][name] for name in ("mutants", "killed", "survived")} == {
        "mutants": 1,
        "killed": 1,
        "survived": 0,
    }
    assert kept[FILE]["commit"].endswith("+"), "data and table had been written by then"
    text = (root / published.TEXT).read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    assert f"| `{FILE}` | 1 | 1 | 0 | 0 | 0 | 0 | 100.0% |" in text
    assert "Not run as a whole, where none may survive without a reason: `node/consensus/o" in text


def test_what_a_sample_has_found_is_published_and_no_more(tmp_path: Path) -> None:
    root = tiny_project(tmp_path / "project")
    (root / "docs").mkdir()
    (root / published.TEXT).write_text(f"Before.\n{samples.BEGIN}\nold\n{samples.END}\nAfter.\n")
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    size = len(all_mutants(root, [FILE]))
    run = ["--publish", "-j", "1", "--sample", "6", "--seed", "3", "--room", "consensus"]
    command.main(run, root)
    (row,) = json.loads((root / samples.SAMPLES).read_text()).values()
    assert (row["mutants"], row["drawn"], row["seed"], row["tiers"]) == (size, 6, 3, None)
    assert sum(row[name] for name in OUTCOMES) == 6
    assert not (root / PUBLISHED).exists()
    text = (root / published.TEXT).read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    assert f"| consensus | {size} | 6 | " in text
    assert "| all tests | 3 |" in text


def test_what_lives_in_a_sample_and_has_not_met_all_tests_counts_as_a_survivor() -> None:
    mutants = mutants_of(FILE, TINY)
    drawn = mutants[:4]
    verdicts = [Verdict(drawn[0], "killed"), Verdict(drawn[1], "survived")]
    rows = samples.rows_of(mutants, drawn, verdicts, {drawn[1].id})
    assert rows == {
        "consensus": {"mutants": len(mutants), "drawn": 4, "killed": 1, "timeout": 0}
        | {"explained": 1, "survived": 2, "unreached": 0}
    }


@pytest.mark.parametrize(
    "narrowed", [["--file", FILE], ["--id", FILE], ["--changed"], ["--seconds", "5"]]
)
def test_a_sample_is_published_of_whole_rooms_alone(
    narrowed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.parse(["--sample", "5", "--publish", *narrowed])
    assert "a sample is published of whole rooms" in capsys.readouterr().err
    command.parse(["--sample", "5", *narrowed])


# What the project publishes

KEPT = read_json(command.ROOT / PUBLISHED)
REASONS_GIVEN = read_json(command.ROOT / REASONS)


def test_the_table_is_what_was_published() -> None:
    text = (command.ROOT / published.TEXT).read_text()
    shown = published.table(published.mutated_files(command.ROOT), KEPT)
    assert published.with_table(text, shown) == text


def test_nothing_survives_without_a_reason_where_all_was_run() -> None:
    for file, row in KEPT.items():
        assert row["mutants"] == sum(row[outcome] for outcome in OUTCOMES), file
        if is_strict(file):
            assert row["survived"] == row["unreached"] == 0, file


def test_each_reason_is_for_a_mutant_that_there_is() -> None:
    files = sorted({mutant_id.split("::")[0] for mutant_id in REASONS_GIVEN})
    known = {mutant.id for mutant in all_mutants(command.ROOT, files)}
    assert sorted(REASONS_GIVEN.keys() - known) == []
    assert all(len(reason) > 20 for reason in REASONS_GIVEN.values())


PATCH = """\
The limit is off by one
Looked for by: tests/unit/test_tiny.py
--- a/node/consensus/tiny.py
+++ b/node/consensus/tiny.py
@@ -1,4 +1,4 @@
-LIMIT = 10
+LIMIT = 9

 def is_within(value: int) -> bool:
     return value < LIMIT
"""


def test_planted_bugs_are_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_project(tmp_path)
    assert command.main(["--planted"], root) == 0
    assert capsys.readouterr().out == f"no patches in {planted.FOLDER}\n"
    (root / planted.FOLDER).mkdir()
    (root / planted.FOLDER / "limit.patch").write_text(PATCH)
    look = "from unchained.node.consensus.tiny import LIMIT; print('FAILED it'); exit(LIMIT < 10)"
    by_command = ["--planted", "--command", shlex.join([sys.executable, "-c", look])]
    assert command.main(by_command, root) == 0
    said = capsys.readouterr()
    assert said.out.startswith("(none): all pass, ")
    assert "| limit | The limit is off by one | it |" in said.out
    first, second = said.err.splitlines()
    assert first.startswith("(none): the tree as it is, which must pass: ")
    assert first.endswith(", 30 min at most")
    assert second == "limit: The limit is off by one (patch 1 of 1)"
    capsys.readouterr()
    assert command.main(["--planted", "limit", *by_command[1:]], root) == 0
    assert "limit: it, " in capsys.readouterr().out
    assert command.main(["--planted", "another"], root) == 2
    assert "no patch another" in capsys.readouterr().err
    assert command.main(["--planted", "--command", "false"], root) == 1, "fails with no patch"
    assert command.main(["--planted", "--command", "true"], root) == 1, "nothing finds it"


def test_how_far_the_tests_are_is_told_while_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_watched(
        _command: Sequence[str], show: Callable[[float, str], None], **_: object
    ) -> tuple[int, str]:
        show(10.0, "")
        show(20.2, "....  [ 12%]\n....  [ 24%]\n..")
        return 0, ""

    monkeypatch.setattr(planted, "run_watched", run_watched)
    root = tiny_project(tmp_path)
    told: list[str] = []
    assert (
        planted.find_planted(root, [], ["true"], tmp_path / "s", lambda _: None, told.append) == []
    )
    assert told[1:] == ["(none): 10 s", "(none): 20 s, 24 % of the tests are through"]


@pytest.mark.parametrize(("faults", "code"), [(0, 0), (10, 0), (11, 1)])
def test_a_simulation_finds_a_planted_bug_by_few_faults(
    faults: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_project(tmp_path)
    (root / planted.FOLDER).mkdir()
    (root / planted.FOLDER / "limit.patch").write_text(PATCH)
    told = f"  scenario storm, seed 7, cut down to {faults} faults:"
    look = (
        "from unchained.node.consensus.tiny import LIMIT\n"
        f"if LIMIT < 10: print('FAILED it'); print('{told}'); exit(1)"
    )
    words = ["--planted", "--command", shlex.join([sys.executable, "-c", look])]
    assert command.main(words, root) == code
    told = capsys.readouterr().out
    assert f"limit: it (storm 7: {faults} faults left), " in told
    assert f"| limit | The limit is off by one | it | storm 7 | {faults} | " in told


def test_the_tests_that_a_patch_names_look_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_project(tmp_path)
    (root / planted.FOLDER).mkdir()
    patch = root / planted.FOLDER / "limit.patch"
    patch.write_text(PATCH)
    assert command.main(["--planted"], root) == 0
    assert f"| {TEST_FILE}::test_within |" in capsys.readouterr().out
    patch.write_text(PATCH.replace("+LIMIT = 9", "+LIMIT = nothing"))
    assert command.main(["--planted"], root) == 1, "its tests are not even collected"
    assert "limit.patch: its tests end with exit code" in capsys.readouterr().out
    patch.write_text(PATCH.replace("Looked for by: ", ""))
    assert command.main(["--planted"], root) == 1
    assert "the second line of limit.patch" in capsys.readouterr().out
    patch.write_text(PATCH.replace("-LIMIT = 10", "-LIMIT = 11"))
    assert command.main(["--planted"], root) == 1
    assert "limit.patch cannot be applied" in capsys.readouterr().out


PATCHES = planted.patches(command.ROOT)


@pytest.mark.parametrize("patch", PATCHES, ids=[patch.stem for patch in PATCHES])
def test_each_planted_bug_can_still_be_planted(patch: Path, tmp_path: Path) -> None:
    assert planted.bug_of(patch)
    assert all((command.ROOT / path).exists() for path in planted.tests_for(patch))
    planted.plant(command.ROOT, patch, tmp_path / "tree")


def test_every_room_has_files() -> None:
    assert all(files_of(command.ROOT, [room]) for room in ROOMS)


def test_the_table_of_samples_is_what_was_published() -> None:
    text = (command.ROOT / published.TEXT).read_text()
    kept = read_json(command.ROOT / samples.SAMPLES)
    assert samples.with_samples(text, samples.samples_table(kept)) == text

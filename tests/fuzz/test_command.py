"""What `scripts/fuzz` says: what begins, how far it is, and what it has changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz import command, growing, libfuzzer, target
from tests.fuzz.command import Change, fuzz, main
from tests.fuzz.libfuzzer import FuzzerFailedError, lay_out, progress_in
from tests.fuzz.target import FuzzTarget, NotTotalError

LOG = """\
INFO: Seed: 1
#7\tINITED cov: 3 ft: 3 corp: 2/12b exec/s: 0 rss: 60Mb
#52\tNEW    cov: 4 ft: 4 corp: 3/15b lim: 4 exec/s: 0 rss: 61Mb L: 3/9 MS: 1 -
#64\tREDUCE cov: 4 ft: 4 corp: 3/14b lim: 4 exec/s: 0 rss: 61Mb L: 2/9 MS: 1 -
#1024\tstill at it
#900\tpulse  cov: 4 ft: 4 corp: 5/14b lim: 9 exec/s: 9 rss: 61Mb
"""


def decode(raw: bytes) -> int:
    if raw[:1] == b"a":
        return 1
    return 2 if len(raw) > 3 else 0


def lines() -> FuzzTarget:
    return FuzzTarget("lines", decode, (), lambda: (b"",))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of its own for the target `lines`, which alone there is."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for module in (target, command):
        monkeypatch.setattr(module, "CORPUS", folder)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "all_targets", lambda: {"lines": lines()})
    return folder


def finds(monkeypatch: pytest.MonkeyPatch, found: Sequence[bytes]) -> None:
    """Let the plain engine find these inputs."""

    def grow(*_: object, told: libfuzzer.Told, **__: object) -> list[bytes]:
        told(10, 1_234, 1)
        return list(found)

    monkeypatch.setattr(command, "grow", grow)


def test_what_begins_and_how_far_it_is_is_told(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(monkeypatch, [b"a", b"abcd"])
    assert main(["lines", "--plain"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "1 target, 60 s each; what is found worth keeping is written into corpus, which is in the "
        "repository",
        f"lines: {command.PLAIN}, for 60 s, from 0 inputs of the corpus and those that it begins "
        "with",
        "lines: 10 s: 1,234 executions, 1 new input, no failure",
    ]
    assert said.out.splitlines() == [
        "lines: corpus/lines.json: 2 added, 0 taken out, 2 there now",
        "1 file of the corpus in the repository changed: 2 inputs added, 0 taken out; git diff "
        "--stat shows them, git checkout tests/fuzz/corpus takes them back",
    ]
    assert main(["lines", "--plain"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "lines: nothing changed in corpus/lines.json: 2 inputs",
        "the corpus in the repository is as it was",
    ]


def test_the_list_tells_of_each_target_how_many_inputs_there_are(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list"]) == 0
    first, kernel = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["lines", "no corpus yet: scripts/fuzz lines makes one"]
    assert kernel.startswith("kernel ")
    lines().keep([b"a", b"b"])
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split(maxsplit=1) == ["lines", "2 inputs"]


def test_what_is_taken_out_is_told_and_of_nothing_there_is_no_file(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines().keep([b"a", b"b" * (command.KEPT_BYTES_MAX + 1)])
    finds(monkeypatch, [b"ab"])
    assert fuzz(lines(), 1, plain=True) == Change("lines", 1, 1, 2)
    assert lines().corpus() == [b"a", b"ab"]
    lines().keep([])
    assert not list(corpus.iterdir())


def test_a_failure_is_told_in_one_line_and_the_exit_code_is_1(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def grow(*_: object, **__: object) -> list[bytes]:
        raise NotTotalError("lines of 61: IndexError()", b"a")

    monkeypatch.setattr(command, "grow", grow)
    monkeypatch.setattr(command, "keep_failure", lambda *_: Path("out/fuzz/lines.fuzzed"))
    assert main(["lines", "--plain"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "lines: FAILED: lines of 61: IndexError()",
        "lines: the smallest input is in out/fuzz/lines.fuzzed; move it to tests/regressions/ to "
        "keep",
        "the corpus in the repository is as it was",
    ]


def test_a_plain_run_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "LINE_S", 0.0)
    told: list[tuple[float, int, int]] = []
    kept = growing.grow(
        lines(), 0.2, 1, ("test_command",), lambda *far: told.append((far[0], far[1], far[2]))
    )
    assert [executions for _, executions, _ in told] == list(range(len(told)))
    assert all(new <= len(kept) for _, _, new in told)


def test_what_libfuzzer_says_is_read() -> None:
    assert progress_in("") == (0, 0)
    assert progress_in(LOG) == (1_024, 3)


def run(folder: Path, code: str) -> list[bytes]:
    """Run a program in Python as if it were a fuzzer."""
    lay_out(lines(), folder)
    return libfuzzer.run([sys.executable, "-c", code], folder, [])


def test_what_a_fuzzer_leaves_is_found(tmp_path: Path, corpus: Path) -> None:
    lines().keep([b"a"])
    code = "import sys; open(sys.argv[-1] + '/new', 'wb').write(b'abcd')"
    assert sorted(run(tmp_path, code)) == [b"", b"a", b"abcd"]


@pytest.mark.parametrize("kind", ["crash", "oom", "timeout", "leak"])
def test_an_input_that_ends_a_fuzzer_is_a_failure(kind: str, tmp_path: Path, corpus: Path) -> None:
    code = (
        "import sys; prefix = sys.argv[-2].partition('=')[2]\n"
        f"open(prefix + '{kind}-1', 'wb').write(b'x'); print('NotTotalError: it breaks'); exit(77)"
    )
    with pytest.raises(NotTotalError, match=r"^it breaks$") as failed:
        run(tmp_path, code)
    assert failed.value.raw == b"x"


def test_a_fuzzer_that_cannot_run_is_no_failure_of_a_target(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(FuzzerFailedError, match="ended with 3: no such target"):
        run(tmp_path, "print('no such target'); exit(3)")

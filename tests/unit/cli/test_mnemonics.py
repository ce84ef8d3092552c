"""The 24 words: shown to be copied, asked for again, and taken in with each wrong word named."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.mnemonics import grid, problem_with, read_mnemonic, show_new, split_words
from unchained.node.crypto.accounts import new_mnemonic

MNEMONIC = new_mnemonic(bytes(range(32)))
WORDS = MNEMONIC.split()


class Terminal(io.StringIO):
    """A person who types lines, one for each question, and what is shown meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Sequence[str] | None) -> None:
        super().__init__()
        self.questions: list[str] = []
        self._answers = list(answer or ())
        self._knows = answer is None
        monkeypatch.setattr("sys.stdin", self)
        monkeypatch.setattr("sys.stdout", self)
        monkeypatch.setattr("sys.stderr", self)
        monkeypatch.setattr(typer, "prompt", self._ask)

    def isatty(self) -> bool:
        return True

    def _ask(self, question: str, **_: object) -> str:
        self.questions.append(question)
        return WORDS[int(question.split()[1]) - 1] if self._knows else self._answers.pop(0)


def test_the_grid_is_numbered_down_its_columns_within_80() -> None:
    longest = grid(["disagree"] * 24)
    assert max(len(line) for line in longest) <= 80
    lines = grid(WORDS)
    assert len(lines) == 6
    found = {int(n): word for line in lines for n, word in re.findall(r"(\d+) ([a-z]+)", line)}
    assert [found[number] for number in range(1, 25)] == WORDS
    assert lines[0].split()[0::2] == ["1", "7", "13", "19"]


def test_two_of_the_words_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, None)
    show_new("cold", MNEMONIC, confirm=True)
    assert len(set(terminal.questions)) == len(terminal.questions) == 2
    assert "The wallet is made. Type 2 of the words" in terminal.getvalue()
    assert all(line in terminal.getvalue() for line in grid(WORDS))


def test_who_breaks_off_is_told_that_the_wallet_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, None)

    def break_off(*_: object, **__: object) -> str:
        raise typer.Abort

    monkeypatch.setattr(typer, "prompt", break_off)
    with pytest.raises(CommandFailedError, match=r"'cold' is made all the .*mnemonic -w cold"):
        show_new("cold", MNEMONIC, confirm=True)


def test_a_wrong_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unchained.node.cli.mnemonics.WORDS_ASKED", 1)
    monkeypatch.setattr("random.Random.sample", lambda *_: [3])
    terminal = Terminal(monkeypatch, ["zebra", WORDS[2].upper()])
    show_new("cold", MNEMONIC, confirm=True)
    assert terminal.questions == ["Word 3", "Word 3"]
    assert "That is not word 3" in terminal.getvalue()


def test_nobody_is_asked_with_no_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, None)
    show_new("cold", MNEMONIC, confirm=False)
    assert terminal.questions == []


def test_programs_get_the_words_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_new("cold", MNEMONIC, confirm=True)
    assert capsys.readouterr().out == f"{MNEMONIC}\n"


@pytest.mark.parametrize(
    "text",
    [
        MNEMONIC,
        "\n".join(WORDS) + "\n",
        "\n".join(f"{number}. {word}" for number, word in enumerate(WORDS, 1)),
        "\n".join(f"{number}) {word.upper()}" for number, word in enumerate(WORDS, 1)),
        "\n".join(f"{number}:{word}" for number, word in enumerate(WORDS, 1)),
        "\t".join(f"{number}\t{word}" for number, word in enumerate(WORDS, 1)),
        "\r\n".join(WORDS),
    ],
    ids=["line", "lines", "dots", "brackets", "colons", "tabs", "windows"],
)
def test_a_file_has_the_words_in_any_form(tmp_path: Path, text: str) -> None:
    file = tmp_path / "words"
    file.write_bytes(text.encode())
    file.chmod(0o600)
    assert read_mnemonic(file) == MNEMONIC


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*WORDS[:6], "abandn", *WORDS[7:]], "word 7, 'abandn', is not on the list; .*'abandon'"),
        (WORDS[:-1], "24 words, got 23"),
        ([*WORDS, "zoo"], "24 words, got 25"),
        ([*WORDS[1:], WORDS[0]], "checksum"),
        ([], "24 words, got 0"),
    ],
)
def test_a_file_that_is_wrong_is_told_by_its_word(
    tmp_path: Path, words: list[str], said: str
) -> None:
    file = tmp_path / "words"
    file.write_text("\n".join(words))
    with pytest.raises(CommandFailedError, match=said):
        read_mnemonic(file)


def test_a_file_that_is_no_text_or_much_too_long_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandFailedError, match="not text in UTF-8"):
        read_mnemonic(file)
    file.write_bytes(b"zoo " * 100_000)
    with pytest.raises(CommandFailedError, match="at most 4096 bytes"):
        read_mnemonic(file)
    with pytest.raises(CommandFailedError, match="No such file"):
        read_mnemonic(tmp_path / "none")


def test_words_are_typed_in_sight_and_each_wrong_one_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = [
        " ".join(WORDS[:5]),
        f"{WORDS[5]} abandn {WORDS[7]}",
        f"7. {' '.join(WORDS[6:])}",
    ]
    terminal = Terminal(monkeypatch, typed)
    assert read_mnemonic(None) == MNEMONIC
    assert terminal.questions == ["Word 1", "Word 6", "Word 7"]
    assert "word 7, 'abandn', is not on the list; the nearest is 'abandon'" in terminal.getvalue()


def test_words_out_of_place_are_typed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, [" ".join([*WORDS[1:], WORDS[0]]), MNEMONIC])
    assert read_mnemonic(None) == MNEMONIC
    assert "checksum is wrong" in terminal.getvalue()
    assert "Begin again" in terminal.getvalue()


def test_a_line_of_too_many_words_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(
        monkeypatch,
        [f"{MNEMONIC} zoo zoo", " ".join(WORDS[:20]), " ".join([*WORDS[20:], "zoo"]), *WORDS[20:]],
    )
    assert read_mnemonic(None) == MNEMONIC
    assert "With that line 26 words, expected 24: it is left out." in terminal.getvalue()
    assert "With that line 25 words" in terminal.getvalue()
    assert terminal.questions[:4] == ["Word 1", "Word 1", "Word 21", "Word 21"]


def test_what_follows_the_last_word_closes_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = [f"24 {WORDS[23]} abandon", " ".join(WORDS[:22]), WORDS[22]]
    terminal = Terminal(monkeypatch, typed)
    assert read_mnemonic(None) == MNEMONIC
    assert "word 1 is missing, and 'abandon' would be word 25" in terminal.getvalue()
    assert terminal.questions == ["Word 1", "Word 1", "Word 23"]


def test_no_words_without_file_or_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(MNEMONIC))
    with pytest.raises(CommandFailedError, match="use a terminal or --mnemonic-file FILE"):
        read_mnemonic(None)


def test_the_words_are_where_their_numbers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "words"
    file.write_text("\n".join(grid(WORDS)))
    file.chmod(0o600)
    assert read_mnemonic(file) == MNEMONIC
    last = f"6 {WORDS[5]} 12 {WORDS[11]} 18 {WORDS[17]}"
    typed = [*grid(WORDS)[:3], f"24 {WORDS[23]}", *grid(WORDS)[3:5], last]
    terminal = Terminal(monkeypatch, typed)
    assert read_mnemonic(None) == MNEMONIC
    assert terminal.questions[:4] == ["Word 1", "Word 2", "Word 3", "Word 4"]
    assert terminal.questions[6] == "Word 6"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n".join(f"{number} {word}" for number, word in enumerate(WORDS)), "no word 0"),
        ("\n".join(f"{number} {word}" for number, word in enumerate(WORDS, 2)), "no word 25"),
        (f"1 {WORDS[0]} 1 {WORDS[1]}", "a word 1 already"),
        ("\n".join(grid(WORDS)[1:]), "word 1 is missing"),
        (f"2 {MNEMONIC}", "word 1 is missing"),
    ],
)
def test_numbers_that_are_wrong_are_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "words"
    file.write_text(text)
    with pytest.raises(CommandFailedError, match=said):
        read_mnemonic(file)


def test_numbers_alone_are_no_words() -> None:
    found = [(1, "zoo"), (2, "yard"), (3, "xray"), (24, "zero"), (None, "end")]
    assert split_words("1 zoo 2. yard 3)xray 24:zero end 7") == found
    assert "nearest" in problem_with(1, "\u6c34")


@pytest.mark.parametrize(
    ("typed", "nearest"), [("chnage", "change"), ("abandno", "abandon"), ("ozo", "zoo")]
)
def test_two_letters_swapped_are_the_nearest(typed: str, nearest: str) -> None:
    assert problem_with(3, typed).endswith(f"the nearest is {nearest!r}")

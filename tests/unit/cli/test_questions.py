"""Questions go beside the answer, and what is no yes is a no."""

from __future__ import annotations

import io
import sys

import pytest
import typer

from unchained.node.cli.questions import ask_text, ask_yes


@pytest.mark.parametrize(
    ("typed", "said"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("yup\n", False), ("y", True)],
)
def test_yes_or_no(
    typed: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert ask_yes("Send it?") is said
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "Send it? [y/N]: ")


def test_nothing_typed_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(typer.Abort):
        ask_text("Name")


def test_what_is_said_after_a_question_that_is_broken_off_begins_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keyboard(io.StringIO):
        def readline(self, *_: object) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Keyboard())
    with pytest.raises(KeyboardInterrupt):
        ask_yes("Send it?")
    assert capsys.readouterr().err == "Send it? [y/N]: \n"

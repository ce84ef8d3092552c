"""Texts that people carry: one for each content, and none that was mistyped."""

from __future__ import annotations

import pytest

from unchained.node.primitives.hashing import HashContext
from unchained.node.wallet.checked_text import CheckedText, MalformedTextError

TEXT = CheckedText("thing:", HashContext("a thing"))


@pytest.mark.parametrize("size", range(8))
def test_it_reads_what_it_writes(size: int) -> None:
    raw = bytes(range(250, 250 + size)) if size < 7 else b"\xff" * size
    assert TEXT.read(TEXT.write(raw)) == raw


def test_each_content_has_one_text() -> None:
    text = TEXT.write(b"\xfb\xff\xfe")
    assert text.startswith("thing:-__-")
    for other, why in (
        (text.removeprefix("thing:"), "expected thing:"),
        (text.upper(), "expected thing:"),
        (text + "=", "base64url"),
        (text + "é", "base64url"),
        (text + "\n", "base64url"),
        (text.replace("-", "+").replace("_", "/"), "checksum|base64url"),
        (text[:-1], "checksum|base64url"),
        (text[:-1] + "Z", "checksum"),
        ("thing:", "checksum"),
    ):
        with pytest.raises(MalformedTextError, match=why) as caught:
            TEXT.read(other)
        assert "\n" not in str(caught.value)
    for at in range(len("thing:"), len(text)):
        swapped = "A" if text[at] != "A" else "B"
        with pytest.raises(MalformedTextError):
            TEXT.read(text[:at] + swapped + text[at + 1 :])

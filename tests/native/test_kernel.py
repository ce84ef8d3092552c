"""The kernel under clang's sanitizers: what libFuzzer has found so far, and that it would see."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzz.kernel import KERNEL, SOURCES, build, run
from tests.fuzz.libfuzzer import lay_out
from tests.fuzz.target import NotTotalError


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("kernel"))


def test_all_variants_give_one_tag_and_stay_in_their_memory(fuzzer: Path, tmp_path: Path) -> None:
    lay_out(KERNEL, tmp_path)
    kept = run(fuzzer, tmp_path, "-runs=0")
    assert set(kept) >= {*KERNEL.seeds(), *KERNEL.corpus()}


def test_what_is_written_beside_the_memory_is_seen(fuzzer: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "native"
    shutil.copytree(SOURCES, faulty)
    source = faulty / "argon2.c"
    text = source.read_text()
    marked = "    variant->fill(&filling);\n"
    assert marked in text
    beside = "    *(volatile uint64_t *)block_at(&filling, filling.lane_length) = 1;\n"
    source.write_text(text.replace(marked, marked + beside))
    program = build(tmp_path, faulty, fills=fuzzer.parent)
    lay_out(KERNEL, tmp_path)
    with pytest.raises(NotTotalError, match="heap-buffer-overflow"):
        run(program, tmp_path, "-runs=0")

"""Tests lie where a reader looks for them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "tests/unit"

ROOMS = {
    "miner": ROOT / "miner",
    "storage": ROOT / "storage",
    "framework": ROOT / "tests/framework",
}
"""Rooms that are no folder of `node`."""

OF_SEVERAL_MODULES = {
    "chain/test_attack_import.py",
    "chain/test_attack_mutants.py",
    "chain/test_attack_source.py",
    "chain/test_bounded_reads.py",
    "consensus/test_network_vectors.py",
    "consensus/test_transfer_vectors.py",
    "crypto/test_commitment_vectors.py",
    "crypto/test_key_vectors.py",
    "crypto/test_range_vectors.py",
    "primitives/test_codec_vectors.py",
    "primitives/test_hash_vectors.py",
    "storage/test_documented_sizes.py",
    "wallet/test_earlier_versions.py",
}
"""Golden bytes and attacks, each of which goes through several modules of its room."""


def test_a_unit_test_is_named_after_a_module_of_its_room() -> None:
    astray = []
    for test in sorted(UNIT.glob("*/test_*.py")):
        name = test.relative_to(UNIT).as_posix()
        room = test.parent.name
        if room == "project" or name in OF_SEVERAL_MODULES:
            continue
        module = test.stem.removeprefix("test_")
        folder = ROOMS.get(room, ROOT / "node" / room)
        # A module, a part of one, or a package of several that are tested together.
        parts = module.split("_")
        stems = ["_".join(parts[:count]) for count in range(1, len(parts) + 1)]
        if not any(any(folder.rglob(f"{stem}.py")) for stem in stems) and not any(
            folder.glob(f"{module}/*.py")
        ):
            astray.append(f"{name}: no {module} in the room {room}")
    assert astray == []


def test_what_is_excepted_exists() -> None:
    assert [name for name in OF_SEVERAL_MODULES if not (UNIT / name).is_file()] == []


def test_every_unit_test_lies_in_a_room() -> None:
    assert sorted(UNIT.rglob("test_*.py")) == sorted(UNIT.glob("*/test_*.py"))

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.peers.asmap import ASMAP_BYTES_MAX, Asmap, BadAsmapError
from unchained.node.peers.network_groups import NetworkGroups

CORE = bytes.fromhex(
    "fb03ec0fb03fc0fe00fb03ec0fb03fc0fe00fb03ec0fb0fffffeffedb0ffd486e6282900"
    "00400000400040990100800180040000050006001cf039"
)
"""Bitcoin Core's src/test/data/asmap.raw: 250.0.0.0/8 is AS1000, 101.N.0.0/16 for N from 1 to 8
is ASN."""
IPV4_PREFIX = CORE[:27]
"""Takes the 96 bits before an IPv4 address (Core's src/test/fuzz/asmap.cpp)."""


def test_the_map_of_bitcoin_cores_tests_says_what_it_says_there() -> None:
    asmap = Asmap(CORE)
    assert len(CORE) == 59
    for ip, system in {
        "250.0.0.0": 1000,
        "250.255.255.255": 1000,
        **{f"101.{number}.7.8": number for number in range(1, 9)},
        "1.2.3.4": 0,
        "127.0.0.1": 0,
        "2001:db8::1": 0,
        "::ffff:250.1.2.3": 1000,
    }.items():
        assert asmap.system_of(ip) == system, ip


def test_networks_are_grouped_by_system_where_the_map_names_one() -> None:
    groups = NetworkGroups(Asmap(CORE))
    assert groups.of("250.1.2.3") == groups.of("250.200.2.3") == "AS1000"
    assert groups.of("1.2.3.4") == NetworkGroups().of("1.2.3.4") == "1.2.0.0/16"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends without an answer"),
        (CORE[:30], "a jump leads beyond its end"),
        (CORE + b"\x00", "more follows its end"),
        (IPV4_PREFIX, "ends"),
        (b"\xff" * 64, "a default follows a default|takes more bits|two matches|beyond"),
        (b"\x00\x00\x00\xff", "more follows"),
    ],
)
def test_a_map_that_is_not_sound_is_refused_in_words(data: bytes, why: str) -> None:
    with pytest.raises(BadAsmapError, match=why) as caught:
        Asmap(data, "some.map")
    assert str(caught.value).startswith("network.asmap: some.map: ")


def test_every_cut_and_most_flips_are_refused_and_none_leads_astray() -> None:
    for length in range(len(CORE)):
        with pytest.raises(BadAsmapError):
            Asmap(CORE[:length])
    rng = random.Random(7)
    for bit in range(8 * len(CORE)):
        flipped = bytearray(CORE)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        try:
            asmap = Asmap(bytes(flipped))
        except BadAsmapError:
            continue
        for _ in range(8):
            ip = ".".join(str(rng.randrange(256)) for _ in range(4))
            assert asmap.system_of(ip) >= 0


@given(st.binary(max_size=96), st.ip_addresses())
def test_whatever_bytes_come_there_is_an_answer_or_a_refusal(data: bytes, ip: object) -> None:
    for program in (data, IPV4_PREFIX + data):
        try:
            asmap = Asmap(program)
        except BadAsmapError:
            continue
        assert asmap.system_of(str(ip)) >= 0


def test_a_file_that_is_missing_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadAsmapError, match=r"nowhere.*No such file"):
        Asmap.load(tmp_path / "nowhere")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(ASMAP_BYTES_MAX + 1)
    with pytest.raises(BadAsmapError, match="8 MiB"):
        Asmap.load(large)
    (tmp_path / "core").write_bytes(CORE)
    assert Asmap.load(tmp_path / "core").system_of("250.1.1.1") == 1000

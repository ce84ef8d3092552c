"""Which autonomous system an address is in, by a map in Bitcoin Core's format (its util/asmap.cpp).

The map is a program for a small machine, read bit by bit, of each byte the lowest bit first. It is
given the 128 bits of an address (IPv4 as ``::ffff:a.b.c.d``) and ends with the number of a system:

- ``RETURN asn`` ends;
- ``JUMP n`` takes a bit of the address, and skips n bits of the program if it is 1;
- ``MATCH m`` takes as many bits as m has after its highest 1; if they differ, the default is the
  answer;
- ``DEFAULT asn`` sets that default, which is 0, for none, at first.

A map is checked as a whole when it is loaded, so that no address can lead it astray.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path
from typing import Final

ASMAP_BYTES_MAX: Final = 8 << 20
"""Size of a map's file: those of the whole internet have some 2 MiB."""
ADDRESS_BITS: Final = 128

_RETURN: Final = 0
_JUMP: Final = 1
_MATCH: Final = 2
_DEFAULT: Final = 3

_OPCODE_SIZES: Final = (0, 0, 1)
_ASN_SIZES: Final = tuple(range(15, 25))
_MATCH_SIZES: Final = tuple(range(1, 9))
_JUMP_SIZES: Final = tuple(range(5, 31))


class BadAsmapError(Exception):
    """A file is no map of autonomous systems."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"network.asmap: {name}: {why}; expected a map in Bitcoin Core's format")


class _FaultyProgramError(Exception):
    """The program of a map is wrong, at a bit."""


class _Program:
    """A map's bits, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.end = 8 * len(data)
        self.at = 0

    def bit(self) -> int:
        at = self.at
        if at >= self.end:
            raise _FaultyProgramError("it ends amid an instruction")
        self.at = at + 1
        return self._data[at >> 3] >> (at & 7) & 1

    def number(self, least: int, sizes: tuple[int, ...]) -> int:
        """Read a number: which size its mantissa has, in ones and a zero, then the mantissa."""
        for size in sizes[:-1]:
            if not self.bit():
                break
            least += 1 << size
        else:
            size = sizes[-1]
        for place in range(size - 1, -1, -1):
            least += self.bit() << place
        return least

    def opcode(self) -> int:
        return self.number(0, _OPCODE_SIZES)

    def asn(self) -> int:
        return self.number(1, _ASN_SIZES)

    def match(self) -> int:
        return self.number(2, _MATCH_SIZES)

    def jump(self) -> int:
        return self.number(17, _JUMP_SIZES)


class Asmap:
    """A map that is sound. `BadAsmapError` where it is not."""

    def __init__(self, data: bytes, name: str = "map") -> None:
        self._data = data
        try:
            _check(_Program(data))
        except _FaultyProgramError as error:
            raise BadAsmapError(name, str(error)) from None
        self.system_of = lru_cache(maxsize=4096)(self._system_of)
        """Return the number of the system that an IP literal is in, 0 if the map names none."""

    @classmethod
    def load(cls, path: Path) -> Asmap:
        """Read a file. Raises `BadAsmapError`."""
        try:
            with path.open("rb") as file:
                data = file.read(ASMAP_BYTES_MAX + 1)
        except OSError as error:
            raise BadAsmapError(str(path), error.strerror or str(error)) from None
        if len(data) > ASMAP_BYTES_MAX:
            raise BadAsmapError(str(path), f"more than {ASMAP_BYTES_MAX >> 20} MiB")
        return cls(data, str(path))

    def _system_of(self, ip: str) -> int:
        parsed = ipaddress.ip_address(ip)
        bits = int(parsed)
        if isinstance(parsed, ipaddress.IPv4Address):
            bits |= 0xFFFF << 32
        return _run(_Program(self._data), bits)


def _run(program: _Program, address: int) -> int:
    """Return what a checked program says of an address, an integer of 128 bits."""
    left = ADDRESS_BITS
    default = 0
    while True:
        opcode = program.opcode()
        if opcode == _RETURN:
            return program.asn()
        if opcode == _JUMP:
            distance = program.jump()
            left -= 1
            if address >> left & 1:
                program.at += distance
        elif opcode == _MATCH:
            wanted = program.match()
            length = wanted.bit_length() - 1
            left -= length
            if address >> left & (1 << length) - 1 != wanted - (1 << length):
                return default
        else:
            default = program.asn()


def _check(program: _Program) -> None:
    """Go through a program once, as every address that there is could. Raises `_Faulty`."""
    left = ADDRESS_BITS
    jumps: list[tuple[int, int]] = []
    """Where the jumps that are open lead to, and how many bits of an address are left there; the
    nearest last."""
    last = _JUMP
    is_match_short = False
    while program.at < program.end:
        if jumps and program.at >= jumps[-1][0]:
            raise _FaultyProgramError("a jump leads into an instruction")
        opcode = program.opcode()
        if opcode == _RETURN:
            if last == _DEFAULT:
                raise _FaultyProgramError("a default is returned at once")
            program.asn()
            if not jumps:
                _check_padding(program)
                return
            target, left = jumps.pop()
            if program.at != target:
                raise _FaultyProgramError("an instruction is never reached")
            opcode = _JUMP
        elif opcode == _JUMP:
            distance = program.jump()
            target = program.at + distance
            if target > program.end:
                raise _FaultyProgramError("a jump leads beyond its end")
            if not left:
                raise _FaultyProgramError("it takes more bits than an address has")
            left -= 1
            if jumps and target >= jumps[-1][0]:
                raise _FaultyProgramError("jumps cross")
            jumps.append((target, left))
        elif opcode == _MATCH:
            length = program.match().bit_length() - 1
            if last != _MATCH:
                is_match_short = False
            is_short = length < len(_MATCH_SIZES)
            if is_short and is_match_short:
                raise _FaultyProgramError("two matches in a row are not of 8 bits")
            is_match_short = is_short
            if left < length:
                raise _FaultyProgramError("it takes more bits than an address has")
            left -= length
        else:
            if last == _DEFAULT:
                raise _FaultyProgramError("a default follows a default")
            program.asn()
        last = opcode
    raise _FaultyProgramError("it ends without an answer")


def _check_padding(program: _Program) -> None:
    if program.end - program.at > 7:
        raise _FaultyProgramError("more follows its end")
    while program.at < program.end:
        if program.bit():
            raise _FaultyProgramError("more follows its end")

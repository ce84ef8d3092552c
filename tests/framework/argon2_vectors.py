"""Known answers of Argon2id v0x13 with one lane.

From the reference implementation's own tests (phc-winner-argon2, src/test.c); RFC 9106's vector has
four lanes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Argon2Vector:
    """One known answer; memory in KiB, 32 bytes of tag in hex."""

    iterations: int
    mem_kib: int
    password: bytes
    salt: bytes
    tag: str


ARGON2_VECTORS = (
    Argon2Vector(
        iterations=2,
        mem_kib=2**16,
        password=b"password",
        salt=b"somesalt",
        tag="09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
    ),
    Argon2Vector(
        iterations=2,
        mem_kib=2**18,
        password=b"password",
        salt=b"somesalt",
        tag="78fe1ec91fb3aa5657d72e710854e4c3d9b9198c742f9616c2f085bed95b2e8c",
    ),
    Argon2Vector(
        iterations=2,
        mem_kib=2**8,
        password=b"password",
        salt=b"somesalt",
        tag="9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
    ),
    Argon2Vector(
        iterations=1,
        mem_kib=2**16,
        password=b"password",
        salt=b"somesalt",
        tag="f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98",
    ),
    Argon2Vector(
        iterations=4,
        mem_kib=2**16,
        password=b"password",
        salt=b"somesalt",
        tag="9025d48e68ef7395cca9079da4c4ec3affb3c8911fe4f86d1a2520856f63172c",
    ),
    Argon2Vector(
        iterations=2,
        mem_kib=2**16,
        password=b"differentpassword",
        salt=b"somesalt",
        tag="0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
    ),
    Argon2Vector(
        iterations=2,
        mem_kib=2**16,
        password=b"password",
        salt=b"diffsalt",
        tag="bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
    ),
)

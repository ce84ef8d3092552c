"""Signed messages, receipts and reserve proofs (Protocol §9) put together from the text alone, for
known answers: hashes by the slow ones, signatures and ciphertexts by pure Python, layouts by hand.

The chain is made up as that of `proof_files`; proofs of work, notes and signatures are real.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import msgspec
from bech32 import CHARSET, bech32_hrp_expand, bech32_polymod, convertbits
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from dilithium_py.ml_dsa import ML_DSA_65
from kyber_py.ml_kem import ML_KEM_768

from tests.framework.proof_files import Layout, MadeUpChain
from tests.framework.slow import slow_hash
from unchained.node.consensus.params import LOCAL, REG, Network

TIP: Final = 9
"""Anchors of the made-up chains."""


def pack(layout: object) -> bytes:
    """Return the MessagePack encoding of arrays, byte strings and integers."""
    return msgspec.msgpack.encode(layout)


class Signer:
    """A spend key, from a number."""

    def __init__(self, number: int) -> None:
        self.seed = slow_hash("test signer", bytes((number,)))
        public, private = ML_DSA_65.key_derive(self.seed)
        self.public_key = bytes(public)
        self._private = bytes(private)
        self.key_hash = slow_hash("key", self.public_key)

    def sign(self, digest: bytes, context: bytes) -> Layout:
        """Return key and signature, the same each time."""
        signature = ML_DSA_65.sign(self._private, digest, ctx=context, deterministic=True)
        return [self.public_key, bytes(signature)]

    def address(self, network: Network) -> str:
        """Return the key's address."""
        data = convertbits(b"\x00" + self.key_hash, 8, 5)
        assert data is not None
        prefix = bech32_hrp_expand(network.address_prefix)
        checksum = bech32_polymod([*prefix, *data, *([0] * 6)]) ^ 0x2BC830A3
        data += [checksum >> 5 * (5 - place) & 31 for place in range(6)]
        return f"{network.address_prefix}1{''.join(CHARSET[value] for value in data)}"

    def lock(self, salt: bytes) -> bytes:
        """Return the lock that the key opens with a salt."""
        return slow_hash("lock", b"\x00" + self.key_hash + salt)


@cache
def signer(number: int) -> Signer:
    """Return a spend key, from a number."""
    return Signer(number)


# Signed messages (§9.1)


def message_file(network: Network, message: bytes, by: Signer, context: bytes) -> bytes:
    """Return a signed message."""
    digest = slow_hash("signed message", pack([network.chain_id, message]))
    signature = by.sign(digest, context)
    return b"UNCHAINED-MESSAGE\x01" + pack([network.chain_id, message, signature])


def _messages() -> Iterator[dict[str, Any]]:
    for network, text, number in (
        (REG, "", 1),
        (REG, "The address is mine.", 1),
        (LOCAL, "Grüße\nan alle", 2),
    ):
        by = signer(number)
        file = message_file(network, text.encode(), by, b"unchained message v1")
        yield {
            "network": network.name,
            "seed": by.seed.hex(),
            "address": by.address(network),
            "message": text,
            "file": file.hex(),
        }


def _refused_messages() -> Iterator[dict[str, str]]:
    by = signer(1)
    sound = message_file(REG, b"yes", by, b"unchained message v1")
    transfer = message_file(REG, b"yes", by, b"unchained transfer v1")
    for what, file in (
        ("signed as a transfer is", transfer),
        ("another text", sound.replace(b"yes", b"no!")),
        ("of another network", message_file(LOCAL, b"yes", by, b"unchained message v1")),
        ("version 2", b"UNCHAINED-MESSAGE\x02" + sound[18:]),
        ("cut short", sound[:-1]),
        ("a byte too many", sound + b"\x00"),
        ("nothing", b""),
    ):
        yield {"what": what, "file": file.hex()}


# Receipts (§9.2)


class PaidPaycode:
    """A transfer with an output to a paycode and one to an address, and who is paid."""

    def __init__(self) -> None:
        self.payer, self.payee, self.other = signer(1), signer(3), signer(4)
        d, z = (slow_hash(f"test view {part}", b"") for part in "dz")
        view_key, _ = ML_KEM_768.key_derive(d + z)
        self.view_key = bytes(view_key)
        shared, ciphertext = ML_KEM_768._encaps_internal(self.view_key, slow_hash("test m", b""))
        self.shared, ciphertext = bytes(shared), bytes(ciphertext)
        coin_id, salt = slow_hash("test coin", b""), slow_hash("test salt", b"")
        place = coin_id + (0).to_bytes(4, "big")
        lock = self.payee.lock(slow_hash("stealth salt", self.shared + ciphertext + place))
        text = (bytes(8) + b"\x04rent").ljust(256, b"\x00")
        memo = ChaCha20Poly1305(slow_hash("memo", self.shared)).encrypt(bytes(12), text, lock)
        outputs = [
            [250_000_000, lock, ciphertext + memo],
            [70_000, self.other.lock(bytes(32)), b""],
        ]
        signed = [
            1,
            REG.chain_id,
            0,
            5_000,
            [[coin_id, b"\x00" + self.payer.key_hash, salt]],
            outputs,
        ]
        self.txid = slow_hash("transfer", pack(signed))
        signature = self.payer.sign(slow_hash("sighash", pack(signed)), b"unchained transfer v1")
        self.raw = pack([*signed, [signature], []])
        self.wid = slow_hash("transfer full", self.raw)

    @property
    def paycode(self) -> str:
        """Return the payee's paycode."""
        body = b"\x01" + REG.chain_id.to_bytes(4, "big") + self.payee.key_hash + self.view_key
        raw = body + slow_hash("paycode", body)[:4]
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _receipts() -> dict[str, Any]:
    paid, height = PaidPaycode(), 5
    chain = MadeUpChain(TIP, 11, transfers={height: paid.wid})
    core = [
        REG.chain_id,
        paid.raw,
        [1, 0, []],
        chain.start(1, height),
        [chain.anchor(at).opened() for at in range(height, TIP + 1)],
    ]
    name = b"UNCHAINED-RECEIPT"
    secrets = [[0, paid.shared]]
    first, last = chain.anchor(height), chain.anchor(TIP)
    shown = {
        "txid": paid.txid.hex(),
        "height": height,
        "anchor": first.coin.id.hex(),
        "time_ms": first.coin.header.time,
        "tip_height": TIP,
        "tip": last.coin.id.hex(),
        "tip_time_ms": last.coin.header.time,
        "votes": sum(chain.anchor(at).lists[0][0] + 1 for at in range(height + 1, TIP + 1)),
    }
    sound = name + b"\x03" + pack([*core, secrets])
    return {
        "shown": shown,
        "paycode": paid.paycode,
        "address": paid.other.address(REG),
        "nobody": signer(5).address(REG),
        "files": [
            {"what": "with what shows the paycode", "file": sound.hex(), "shows_paycode": True},
            {
                "what": "without",
                "file": (name + b"\x03" + pack([*core, []])).hex(),
                "shows_paycode": False,
            },
            {
                "what": "of version 2",
                "file": (name + b"\x02" + pack(core)).hex(),
                "shows_paycode": False,
            },
        ],
        "refused": [
            {"what": what, "file": (name + b"\x03" + pack([*core, wrong])).hex()}
            for what, wrong in (
                ("a secret that opens nothing", [[0, bytes(32)]]),
                ("a secret of an output without a note", [[1, paid.shared]]),
                ("a secret of no output", [[2, paid.shared]]),
                ("a secret twice", 2 * secrets),
            )
        ],
    }


# Reserve proofs (§9.3)


def _reserves() -> dict[str, Any]:
    salts = [slow_hash("test salt", bytes((number,))) for number in range(4)]
    owners = [signer(1), signer(2), signer(1), signer(1)]
    locks = {at: owners[at].lock(salts[at]) for at in range(4)}
    chain = next(
        made
        for made in (MadeUpChain(TIP, seed, locks=locks) for seed in range(40))
        if all(made.coins[at].spent_height is None for at in range(3))
        and (made.coins[3].spent_height or TIP) < TIP
    )
    message = b"challenge 7"

    def coin(position: int, tip: int = TIP) -> Layout:
        return [chain.file(position, tip), owners[position].key_hash, salts[position]]

    def file(
        positions: list[int],
        *,
        tip: int = TIP,
        said: bytes = message,
        coins: list[Layout] | None = None,
        context: bytes = b"unchained reserve v1",
    ) -> bytes:
        ordered = sorted(positions, key=lambda at: chain.coins[at].id)
        ids = [chain.coins[at].id for at in ordered]
        digest = slow_hash(
            "reserve proof", pack([REG.chain_id, said, chain.anchor(tip).coin.id, ids])
        )
        signers = sorted({owners[at] for at in positions}, key=lambda one: one.key_hash)
        shown = [coin(at, tip) for at in ordered] if coins is None else coins
        signatures = [one.sign(digest, context) for one in signers]
        return b"UNCHAINED-RESERVE\x01" + pack([REG.chain_id, message, shown, signatures])

    ordered = sorted(range(3), key=lambda at: chain.coins[at].id)
    sound = file([0, 1, 2])
    refused = {
        "a spent coin": file([0, 3]),
        "another message": file([0, 1, 2], said=b"challenge 8"),
        "signed as a message is": file([0], context=b"unchained message v1"),
        "coins out of order": file([0, 1, 2], coins=[coin(at) for at in reversed(ordered)]),
        "a coin twice": file([0], coins=2 * [coin(0)]),
        "two tips": file([0, 1], coins=[coin(at, TIP - (at == 1)) for at in ordered if at < 2]),
        "a salt that does not open the lock": file([0], coins=[[*coin(0)[:2], bytes(32)]]),
        "somebody else's coin": file([1], coins=[coin(0)]),
        "no coins": b"UNCHAINED-RESERVE\x01" + pack([REG.chain_id, message, [], []]),
        "cut short": sound[:-1],
        "a byte too many": sound + b"\x00",
        "version 2": b"UNCHAINED-RESERVE\x02" + sound[18:],
        "nothing": b"",
    }
    return {
        "file": sound.hex(),
        "shown": {
            "message": message.hex(),
            "value": sum(chain.coins[at].value for at in range(3)),
            "coins": [chain.coins[at].id.hex() for at in ordered],
            "key_hashes": sorted({owners[at].key_hash.hex() for at in range(3)}),
            "tip": chain.anchor(TIP).coin.id.hex(),
            "tip_height": TIP,
            "state_height": TIP - 1,
        },
        "refused": [{"what": what, "file": file.hex()} for what, file in refused.items()],
    }


def made_wallet_proofs() -> dict[str, Any]:
    """Return the content of tests/vectors/wallet_proofs.json, the same each time."""
    return {
        "about": "§9.1 to §9.3 on reg unless a network is named: files and what they show; "
        "refused: files that do not hold, or are none. Signatures and ciphertexts are made without "
        "randomness",
        "messages": list(_messages()),
        "refused_messages": list(_refused_messages()),
        "receipts": _receipts(),
        "reserve": _reserves(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(made_wallet_proofs(), indent=1, ensure_ascii=True) + "\n")

"""The bounds of decoders: how much of something each accepts at most, and inputs on either side.

A decoder that has lost a bound refuses and raises as before, on all but what lies beyond it: so a
target tells how much is in what it read, and a test has an input of each side that is sound in all
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from unittest.mock import patch

import msgspec

from tests.framework.forge import spend_key
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.vectors import load
from tests.framework.wire_document import Chain
from tests.fuzz.made_files import made_files
from tests.fuzz.peer_bounds import peer_bounds
from tests.fuzz.target import Bound, how_many, how_many_of, some_ids
from unchained.miner.frames import FRAME_SIZE, READY
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import MAX_INPUTS, MAX_OUTPUTS, MAX_TRANSFER_ENCODED
from unchained.node.crypto.addresses import MAX_MEMO
from unchained.node.crypto.history_range import HistoryProof
from unchained.node.crypto.merkle import MAX_SIBLINGS, MerkleProof
from unchained.node.crypto.ranges import MAX_PEAKS, RANGE_SIBLINGS_MAX
from unchained.node.crypto.state_range import StateProof
from unchained.node.primitives.amounts import full
from unchained.node.primitives.body import MAX_BODY_ENCODED, Body
from unchained.node.primitives.codec import encode
from unchained.node.primitives.conditions import MAX_MULTISIG_KEYS, MultisigCondition
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.transfer import Input, Output
from unchained.node.primitives.types import MAX_AMOUNT
from unchained.node.rpc.web.forms import FORM_BYTES_MAX, QUERY_BYTES_MAX, QUERY_FIELDS_MAX
from unchained.node.wallet import signed_message
from unchained.node.wallet.backup import Backup
from unchained.node.wallet.keystore import WALLET_MAGIC, Keystore
from unchained.node.wallet.payment_request import LABEL_CHARS_MAX, URI_CHARS_MAX
from unchained.node.wallet.reserve_proof import (
    RESERVE_COINS_MAX,
    RESERVE_MESSAGE_BYTES_MAX,
    ReserveProof,
)
from unchained.node.wallet.signed_message import MESSAGE_BYTES_MAX, SignedMessage
from unchained.node.wallet.wallet_file import (
    KDF_MEMORY_KIB_MAX,
    KDF_WORK_KIB_MAX,
    MAX_ACCOUNTS,
)
from unchained.node.wallet.watch_export import WatchExport

JSON_DEPTH: Final = 32
"""Levels of brackets that the target `json` reads."""

_BODY_IDS_MAX: Final = (MAX_BODY_ENCODED - 74) // 34
"""Ids of transfers alone that a body of so many bytes holds: each takes 34, all else 74."""


def _raw_size(raw: bytes, _value: object) -> int:
    return len(raw)


def _chars(raw: bytes, _value: object) -> int:
    return len(raw.decode("utf-8", "surrogateescape"))


# Amounts, transfers, conditions, bodies


def _transfer(**fields: Any) -> bytes:
    transfer = Chain().transfer.transfer
    return bytes(msgspec.structs.replace(transfer, **fields).to_bytes())


def _transfer_of_bytes(size: int) -> bytes:
    def with_note(count: int) -> bytes:
        return _transfer(outputs=(Output(1, bytes(32), bytes(count)),))

    # The head of a note is of one size from 64 KiB on.
    return with_note(size - (len(with_note(1 << 16)) - (1 << 16)))


def _transfer_of_inputs(count: int) -> bytes:
    condition = Chain().transfer.transfer.inputs[0].condition
    return _transfer(inputs=tuple(Input(one, condition, bytes(32)) for one in some_ids(count)))


def _multisig(required: int, count: int) -> bytes:
    return bytes((1, required, count)) + b"".join(some_ids(count))


# Files and texts of wallets


_WALLET_CHECKSUM: Final = HashContext("wallet file")


def _wallet_file(cost: tuple[int, int, int]) -> bytes:
    """Return a wallet's file with this cost, which no `KdfCost` may have to be."""
    raw, head = made_files().keys, len(WALLET_MAGIC) + 1
    content = msgspec.msgpack.decode(raw[head:-32])
    content[0][3] = cost
    body = raw[:head] + encode(content)
    return body + _WALLET_CHECKSUM(body)


def _uri(**fields: object) -> bytes:
    words = "&".join(f"{name}={value}" for name, value in fields.items())
    return f"unchained:{load('keys')['paycodes'][0]['paycode']}?{words}".encode()


def _uri_of_chars(count: int) -> bytes:
    return _uri(x="").ljust(count, b"x")


def _watch_export(count: int) -> bytes:
    account = Keystore.from_bytes(made_files().keys, REG).accounts[0]
    accounts = (msgspec.structs.replace(account, index=index) for index in range(count))
    return WatchExport(REG.chain_id, 0, tuple(accounts)).to_text().encode()


def _reserve(**fields: Any) -> bytes:
    return msgspec.structs.replace(ReserveProof.from_file(made_files().reserve), **fields).to_file()


def _reserve_coins(count: int) -> bytes:
    coin = ReserveProof.from_file(made_files().reserve).coins[0]
    return _reserve(coins=(msgspec.structs.replace(coin, proof=b""),) * count)


def _signed(size: int) -> bytes:
    """Return a signed message of so many bytes, which no wallet may have signed."""
    with patch.object(signed_message, "MESSAGE_BYTES_MAX", size):
        signed = SignedMessage.sign(REG, bytes(size), spend_key(0), SeededRandomness("signed"))
    return signed.to_file()


def _backup(name: bytes) -> bytes:
    whole = Backup.from_file(made_files().backup, REG)
    return msgspec.structs.replace(whole, name=name).to_file()


def bounds() -> Mapping[str, tuple[Bound, ...]]:
    """Return the bounds of targets, by their names."""
    memo = "bytes of a memo"
    return {
        "amount": (
            Bound(
                "grains", MAX_AMOUNT, lambda _raw, grains: int(grains), lambda n: full(n).encode()
            ),
            Bound(
                "grains in all",
                MAX_AMOUNT,
                lambda _raw, grains: int(grains),
                lambda n: f"{full(n - 1)}+0.00000001".encode(),
            ),
        ),
        "transfer": (Bound("bytes", MAX_TRANSFER_ENCODED, _raw_size, _transfer_of_bytes),),
        "transfer-alone": (
            Bound(
                "inputs",
                MAX_INPUTS,
                lambda _raw, sized: len(sized.transfer.inputs),
                _transfer_of_inputs,
            ),
            Bound(
                "outputs",
                MAX_OUTPUTS,
                lambda _raw, sized: len(sized.transfer.outputs),
                lambda n: _transfer(outputs=(Output(1, bytes(32), b""),) * n),
            ),
            Bound(
                "grains of outputs and fee",
                MAX_AMOUNT,
                lambda _raw, sized: (
                    sum(one.value for one in sized.transfer.outputs) + sized.transfer.fee
                ),
                lambda n: _transfer(outputs=(Output(n - 1, bytes(32), b""),), fee=1),
            ),
        ),
        "condition": (
            Bound(
                "keys",
                MAX_MULTISIG_KEYS,
                lambda _raw, one: len(one.key_hashes) if isinstance(one, MultisigCondition) else 1,
                lambda n: _multisig(1, n),
            ),
            Bound(
                "signatures that are wanted of two keys",
                2,
                lambda _raw, one: (
                    2 + one.threshold - len(one.key_hashes)
                    if isinstance(one, MultisigCondition)
                    else 1
                ),
                lambda n: _multisig(n, 2),
            ),
        ),
        "body": (
            Bound(
                "ids",
                _BODY_IDS_MAX,
                lambda _raw, body: len(body.fresh) + len(body.uncles) + len(body.transfers),
                lambda n: encode(Body((), (), some_ids(n), bytes(32), bytes(32))),
            ),
        ),
        "state-proof": (
            Bound(
                "siblings",
                RANGE_SIBLINGS_MAX,
                how_many_of("siblings"),
                lambda n: encode(StateProof(1, 0, 0, 0, some_ids(n), ())),
            ),
            Bound(
                "peaks",
                MAX_PEAKS,
                how_many_of("peaks"),
                lambda n: encode(StateProof(1, 0, 0, 0, (), some_ids(n))),
            ),
        ),
        "history-proof": (
            Bound(
                "siblings",
                RANGE_SIBLINGS_MAX,
                how_many_of("siblings"),
                lambda n: encode(HistoryProof(1, 0, (bytes(80),) * n, ())),
            ),
            Bound(
                "peaks",
                MAX_PEAKS,
                how_many_of("peaks"),
                lambda n: encode(HistoryProof(1, 0, (), (bytes(80),) * n)),
            ),
        ),
        "merkle-proof": (
            Bound(
                "siblings",
                MAX_SIBLINGS,
                how_many_of("siblings"),
                lambda n: encode(MerkleProof(1, 0, some_ids(n))),
            ),
        ),
        "payment-uri": (
            Bound("characters", URI_CHARS_MAX, _chars, _uri_of_chars),
            Bound(
                "characters of a label",
                LABEL_CHARS_MAX,
                how_many_of("label"),
                lambda n: _uri(label="x" * n),
            ),
            Bound(
                memo,
                MAX_MEMO,
                lambda _raw, asked: len(asked.memo.encode()),
                lambda n: _uri(memo="x" * n),
            ),
        ),
        "watch-export": (Bound("accounts", MAX_ACCOUNTS, how_many_of("accounts"), _watch_export),),
        "wallet-file": (
            Bound(
                "KiB to stretch a passphrase",
                KDF_MEMORY_KIB_MAX,
                lambda _raw, keystore: int(keystore.file.clear.cost.memory_kib),
                lambda n: _wallet_file((n, 1, 1)),
            ),
            Bound(
                "passes over 1 GiB to stretch a passphrase",
                KDF_WORK_KIB_MAX // KDF_MEMORY_KIB_MAX,
                lambda _raw, keystore: (
                    keystore.file.clear.cost.passes
                    * keystore.file.clear.cost.memory_kib
                    // KDF_MEMORY_KIB_MAX
                ),
                lambda n: _wallet_file((KDF_MEMORY_KIB_MAX, n, 1)),
            ),
            Bound(
                "lanes to stretch a passphrase",
                16,
                lambda _raw, keystore: int(keystore.file.clear.cost.lanes),
                lambda n: _wallet_file((1_024, 1, n)),
            ),
        ),
        "reserve-proof": (
            Bound(
                "bytes of a message",
                RESERVE_MESSAGE_BYTES_MAX,
                how_many_of("message"),
                lambda n: _reserve(message=bytes(n)),
            ),
            Bound("coins", RESERVE_COINS_MAX, how_many_of("coins"), _reserve_coins),
        ),
        "signed-message": (
            Bound("bytes of a message", MESSAGE_BYTES_MAX, how_many_of("message"), _signed),
        ),
        "backup": (Bound("bytes of a name", 64, how_many_of("name"), lambda n: _backup(b"x" * n)),),
        "json": (
            Bound(
                "levels of brackets",
                JSON_DEPTH,
                lambda _raw, value: depth_of(value),
                lambda n: b"[" * n + b"]" * n,
            ),
        ),
        "query": (
            Bound("bytes", QUERY_BYTES_MAX, _raw_size, lambda n: b"a=".ljust(n, b"x")),
            Bound("fields", QUERY_FIELDS_MAX, how_many, _fields),
        ),
        "form": (
            Bound(
                "bytes",
                FORM_BYTES_MAX + 1,  # the first says how the others come
                _raw_size,
                lambda n: b"\xffa=".ljust(n, b"x"),
            ),
        ),
        "miner-frame": (Bound("bytes", FRAME_SIZE, _raw_size, lambda n: READY.ljust(n, b"\0")),),
        "table-transfer": (Bound("bytes", MAX_TRANSFER_ENCODED, _raw_size, bytes),),
        **peer_bounds(),
    }


def _fields(count: int) -> bytes:
    return b"&".join(b"%d=1" % number for number in range(count))


def depth_of(value: object) -> int:
    """Return how deep lists and objects of JSON are nested."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return depth

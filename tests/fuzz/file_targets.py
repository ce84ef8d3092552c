"""Files that others hand over or that lay on a disk, as targets: of wallets, what they prove and
sign, and the tables of a store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from tests.framework.vectors import VECTORS, load, unhex, unhex_all
from tests.fuzz.made_files import made_files, made_rows
from tests.fuzz.target import FuzzTarget
from unchained.node.consensus.params import REG
from unchained.node.crypto import merkle
from unchained.node.crypto.merkle import MerkleProof
from unchained.node.crypto.pow import default_backend
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.ban_list import BanList
from unchained.node.primitives.codec import encode
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.hashing import HashContext
from unchained.node.wallet.backup import Backup
from unchained.node.wallet.errors import SigningError, WalletError
from unchained.node.wallet.keystore import KdfCost, Keystore, SpendSecret
from unchained.node.wallet.receipts import VerifiedReceipt, verify_receipt
from unchained.node.wallet.reserve_proof import ProvenReserve, ReserveProof
from unchained.node.wallet.signed_message import SignedMessage
from unchained.node.wallet.unsigned import Unsigned
from unchained.storage import schema
from unchained.storage.errors import StoreCorruptError
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore
from unchained.storage.tables import NameTable

_PLACE: Final = 4


def wallet_files() -> Iterator[bytes]:
    """Yield the keys of wallets: made here, of an earlier version, and one that only watches."""
    secret = SpendSecret.of(load("keys")["mnemonic"])
    yield Keystore.create(REG, secret, "pass", cost=KdfCost(32, 1, 1)).to_bytes()
    yield (VECTORS / "wallet-0.1" / "kept.wallet").read_bytes()
    yield made_files().keys
    yield made_files().watched


# Backups

_CHECKSUM: Final = HashContext("wallet backup")


def edited(raw: bytes, edits: bytes) -> bytes:
    """Return bytes after some edits: each a place (u32), a length (u8) and so many bytes for it."""
    made = bytearray(raw)
    while len(edits) > _PLACE:
        at = int.from_bytes(edits[:_PLACE], "big") % len(made)
        end = _PLACE + 1 + edits[_PLACE]
        put = edits[_PLACE + 1 : end]
        made[at : at + len(put)] = put
        edits = edits[end:]
    return bytes(made)


def _read_edited(edits: bytes) -> Backup:
    """Read a backup that somebody has altered who knows how to make its checksum."""
    body = edited(made_files().backup[:-32], edits)
    return Backup.from_file(body + _CHECKSUM(body), REG)


def _edit(at: int, put: bytes) -> bytes:
    return at.to_bytes(_PLACE, "big") + bytes([len(put)]) + put


def _edits() -> Iterator[bytes]:
    raw = made_files().backup
    head = raw.index(b"SQLite format 3")
    yield b""
    yield _edit(head + 60, b"\0\0\0\x7f")
    yield _edit(head + 24, bytes(8)) + _edit(head + 100, b"\x0d")
    yield _edit(raw.index(b"CREATE TABLE"), b"CREATE VIEW ")
    yield _edit(raw.index(b"UNCHAINED", 20), b"\xff")
    for page in range(1, 4):
        yield _edit(head + 4_096 * page, bytes(64))
        yield _edit(head + 4_096 * page + 4_000, b"\xff" * 96)


# Transfers that are not signed, receipts, reserves, messages


def _read_unsigned(raw: bytes) -> Unsigned:
    """Read a file and do what a signer does with it."""
    unsigned = Unsigned.from_file(raw, REG)
    assert unsigned.missing() >= 0
    assert unsigned.signers() == sorted(set(unsigned.signers()))
    assert Unsigned.from_file(unsigned.to_file(), REG) == unsigned, "it is not read as written"
    with suppress(SigningError):
        unsigned.finish(REG)
    return unsigned


def _verify_receipt(raw: bytes) -> VerifiedReceipt:
    return verify_receipt(raw, None, default_backend())


def _verify_reserve(raw: bytes) -> ProvenReserve:
    return ReserveProof.from_file(raw).verify(None, default_backend())


def _known(*path: str) -> Iterator[bytes]:
    """Yield the files of some known answers."""
    found = load("wallet_proofs")
    for part in path:
        found = found[part]
    for case in found if isinstance(found, list) else [found]:
        yield unhex(case["file"])


# Merkle proofs


def _proofs() -> Iterator[bytes]:
    for case in load("merkle")["proofs"]:
        proof = MerkleProof(case["n"], case["index"], unhex_all(case["siblings"]))
        yield unhex(case["id"]) + unhex(case["root"]) + encode(proof)


def _verify_proof(raw: bytes) -> bool:
    """Return whether a proof, after 32 bytes of an id and 32 of a root, holds."""
    return merkle.verify(MerkleProof.from_bytes(raw[64:]), raw[:32], raw[32:64])


# Tables


def _table_targets() -> Iterator[FuzzTarget]:
    for table in schema.TABLES:
        key = table.prefix + bytes(table.key_size or 1)
        yield FuzzTarget(
            f"table-{table.name.replace(' ', '-')}",
            lambda raw, table=table, key=key: table.decode(key, raw),  # type: ignore[misc]
            (StoreCorruptError,),
            lambda table=table: (  # type: ignore[misc]
                *(value for _, value in made_rows()[table.name]),
                b"",
                bytes(8),
                bytes(49),
                encode((0, b"", 0)),
            ),
            table.encode,
        )


def _rows(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values: a length (u8) and so many bytes, again and again."""
    parts = []
    while raw:
        end = 1 + raw[0]
        parts.append(raw[1:end])
        raw = raw[end:]
    yield from zip(parts[::2], parts[1::2], strict=False)


def _store_of(table: NameTable[bytes], raw: bytes) -> MemoryStore:
    batch = Batch()
    for name, value in _rows(raw):
        batch.put(table.prefix + name, value)
    store = MemoryStore()
    store.write(batch, sync=True)
    return store


def _of_rows(table: NameTable[bytes]) -> bytes:
    rows = made_rows()[table.name]
    return b"".join(bytes([len(part)]) + part for key, value in rows for part in (key[1:], value))


_NOW_MS: Final = REG.birth_ms


def _open_book(raw: bytes) -> int:
    """Open an address book on any rows: what cannot be read is dropped, and it works."""
    store, batch = _store_of(schema.ADDRESS, raw), Batch()
    book = AddressBook(store, random.Random(1))
    for text in book.sample(8, _NOW_MS):
        book.attempted(text, _NOW_MS)
        book.failed(text, _NOW_MS)
        book.good(text, _NOW_MS)
    book.pending(batch)
    store.write(batch, sync=True)
    again = AddressBook(store, random.Random(1))
    assert not again.unreadable, "what could not be read is still there"
    return len(again)


def _open_bans(raw: bytes) -> int:
    """Open the bans on any rows: what cannot be read is dropped, and the rest is told."""
    store, batch = _store_of(schema.BAN, raw), Batch()
    bans = BanList(store)
    for ban in bans.active(_NOW_MS):
        bans.add(ban.group, "again", _NOW_MS)
        bans.lift(ban.group)
    bans.pending(batch)
    store.write(batch, sync=True)
    assert not BanList(store).unreadable, "what could not be read is still there"
    return len(bans.active(_NOW_MS))


def file_targets() -> Iterator[FuzzTarget]:
    """Yield the targets."""
    yield FuzzTarget(
        "wallet-file", lambda raw: Keystore.from_bytes(raw, REG), (WalletError,), wallet_files
    )
    yield FuzzTarget(
        "backup",
        lambda raw: Backup.from_file(raw, REG),
        (WalletError,),
        lambda: (made_files().backup, b"UNCHAINED-BACKUP\1", bytes(64)),
        Backup.to_file,
        draws=20,
    )
    yield FuzzTarget("edited-backup", _read_edited, (WalletError,), _edits)
    yield FuzzTarget(
        "unsigned",
        _read_unsigned,
        (WalletError,),
        lambda: (
            *made_files().unsigned,
            b"UNCHAINED-UNSIGNED\2",
            b"UNCHAINED-UNSIGNED\1\x90",
        ),
    )
    yield FuzzTarget(
        "receipt",
        _verify_receipt,
        (WalletError,),
        lambda: (
            *made_files().receipts,
            *_known("receipts", "files"),
            *_known("receipts", "refused"),
        ),
    )
    yield FuzzTarget(
        "reserve-proof",
        ReserveProof.from_file,
        (WalletError,),
        lambda: (made_files().reserve, *_known("reserve")),
        ReserveProof.to_file,
    )
    yield FuzzTarget(
        "proven-reserve",
        _verify_reserve,
        (WalletError,),
        lambda: (made_files().reserve, *_known("reserve"), *_known("reserve", "refused")),
        draws=20,
    )
    yield FuzzTarget(
        "signed-message",
        lambda raw: SignedMessage.from_file(raw, None),
        (WalletError,),
        lambda: (made_files().message, *_known("messages"), *_known("refused_messages")),
        SignedMessage.to_file,
    )
    yield FuzzTarget(
        "merkle-proof",
        MerkleProof.from_bytes,
        (ProtocolError,),
        lambda: (raw[64:] for raw in _proofs()),
        MerkleProof.to_bytes,
    )
    yield FuzzTarget("proven-id", _verify_proof, (ProtocolError,), _proofs)
    yield FuzzTarget("address-book", _open_book, (), lambda: (_of_rows(schema.ADDRESS),))
    yield FuzzTarget("bans", _open_bans, (), lambda: (_of_rows(schema.BAN),))
    yield from _table_targets()

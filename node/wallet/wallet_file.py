"""What a wallet's file holds (`keystore`): the layouts of its versions, and what is in clear."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.crypto.accounts import Account, WatchAccount
from unchained.node.crypto.keys import ViewKey
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.types import Bytes32, KeyHash, UInt64

WALLET_FILE_BYTES_MAX: Final = 1 << 20
"""Bytes of a file that is looked at."""

MAX_ACCOUNTS: Final = 64
"""Accounts of one wallet."""

NO_PASSPHRASE: Final = 1
"""Flag of a file that everybody can open."""

WITH_BIP39_PASSPHRASE: Final = 2
"""Flag of a file whose mnemonic alone does not bring the wallet back."""


KDF_MEMORY_KIB_MAX: Final = 1 << 20
"""Memory that the file of a stranger may make a node take, four times the usual: 1 GiB."""

KDF_WORK_KIB_MAX: Final = 3 * KDF_MEMORY_KIB_MAX
"""Memory times passes, likewise four times the usual: some four seconds."""


class KdfCost(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a guess at a passphrase costs: Argon2id's memory in KiB, passes and lanes."""

    memory_kib: int = 256 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        """Keep whoever reads a file and whoever makes one to the same bounds. Raises
        ValueError."""
        if not (
            32 <= self.memory_kib <= KDF_MEMORY_KIB_MAX
            and 1 <= self.passes <= KDF_WORK_KIB_MAX // self.memory_kib
            and 1 <= self.lanes <= 16
        ):
            raise ValueError(
                f"a passphrase is stretched with 32 to {KDF_MEMORY_KIB_MAX} KiB, {KDF_WORK_KIB_MAX}"
                f" KiB times passes at most, and 1 to 16 lanes; not with {self.memory_kib} KiB, "
                f"{self.passes} passes and {self.lanes} lanes"
            )


DEFAULT_COST: Final = KdfCost()
"""256 MiB, three passes: about a second."""


class WatchKeys(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an account is watched and mined to with (Protocol §9)."""

    index: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    key_hash: Bytes32
    view_seed: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    mine_secret: Bytes32

    @classmethod
    def of(cls, account: Account) -> WatchKeys:
        """Take from an account what does not spend."""
        return cls(account.index, account.key_hash, account.view.seed(), account.mine_secret)

    def account(self, chain_id: int) -> WatchAccount:
        """Return the account as the protocol's functions take it."""
        view = ViewKey.from_seed(self.view_seed)
        return WatchAccount(chain_id, view, KeyHash(self.key_hash), self.mine_secret)

    def __repr__(self) -> str:
        return f"<WatchKeys {self.index} {self.key_hash.hex()}>"


class ClearPart2(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What stands in a file of version 1 or 2 in clear: also the sealed part's associated data.
    `birth` is a height below which the wallet has no coins; `flags` say what a passphrase is
    needed for."""

    chain_id: UInt64
    birth: UInt64
    accounts: Annotated[tuple[WatchKeys, ...], msgspec.Meta(min_length=1, max_length=MAX_ACCOUNTS)]
    cost: KdfCost
    salt: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    flags: Annotated[int, msgspec.Meta(ge=0, le=NO_PASSPHRASE | WITH_BIP39_PASSPHRASE)]


class ClearPart(ClearPart2, array_like=True, frozen=True, gc=False):
    """What stands in a file in clear. `further` are the accounts after `accounts`, which a restored
    wallet may turn out to have."""

    further: Annotated[tuple[WatchKeys, ...], msgspec.Meta(max_length=MAX_ACCOUNTS)] = ()

    def to_bytes(self, version: int) -> bytes:
        """Return what is sealed together with the secret in a file of a version."""
        fields = msgspec.structs.astuple(self)
        return encode(fields if version >= 3 else fields[:-1])


class WalletFile2(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The whole file of version 1 or 2."""

    clear: ClearPart2
    nonce: Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
    sealed: Annotated[bytes, msgspec.Meta(max_length=4_096)]


class WalletFile(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The whole file. `sealed` is empty in a watch-only wallet."""

    clear: ClearPart
    nonce: Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
    sealed: Annotated[bytes, msgspec.Meta(max_length=4_096)]

    def to_bytes(self, version: int) -> bytes:
        """Return the encoding in a file of a version."""
        return encode((msgspec.Raw(self.clear.to_bytes(version)), self.nonce, self.sealed))

    @classmethod
    def from_bytes(cls, raw: bytes, version: int) -> WalletFile:
        """Read the encoding in a file of a version. Raises `NonCanonicalError`."""
        if version >= 3:
            return _FILE.decode(raw)
        older = _FILE_2.decode(raw)
        clear = ClearPart(*msgspec.structs.astuple(older.clear))
        return cls(clear, older.nonce, older.sealed)


_FILE: CanonicalDecoder[WalletFile] = CanonicalDecoder(WalletFile, max_size=WALLET_FILE_BYTES_MAX)
_FILE_2: CanonicalDecoder[WalletFile2] = CanonicalDecoder(
    WalletFile2, max_size=WALLET_FILE_BYTES_MAX
)

"""The wallet's file: what spends, sealed under a passphrase; what watches, in clear.

    file = "UNCHAINED-WALLET" ‖ 01 ‖ MessagePack array ‖ BLAKE3 checksum of all before, 32 bytes

The mnemonic is sealed with ChaCha20-Poly1305 under an Argon2id key of the passphrase. The watch
keys of each account stand in clear, so that a node finds and mines coins without the passphrase;
the file is mode 0600, and what stands in clear is authenticated together with what is sealed. The
checksum distinguishes a damaged file from a wrong passphrase.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from mnemonic import Mnemonic

from unchained.node.base.files import write_private
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.params import Network
from unchained.node.crypto.accounts import (
    Account,
    MnemonicError,
    derive_account,
    english,
    mnemonic_seed,
    new_mnemonic,
)
from unchained.node.crypto.addresses import NETWORK_NAMES
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.types import Bytes32
from unchained.node.wallet.errors import (
    AccountLimitError,
    BadWalletNameError,
    EmptyPassphraseError,
    KeystoreCorruptError,
    NoSuchAccountError,
    OtherNetworkWalletError,
    WatchOnlyError,
    WrongPassphraseError,
)
from unchained.node.wallet.wallet_file import (
    DEFAULT_COST,
    MAX_ACCOUNTS,
    NO_PASSPHRASE,
    WALLET_FILE_BYTES_MAX,
    WITH_BIP39_PASSPHRASE,
    ClearPart,
    KdfCost,
    WalletFile,
    WatchKeys,
)

WALLETS_NAME: Final = "wallets"
"""Folder of the data directory with the wallets."""

DEFAULT_WALLET: Final = "default"
"""The wallet that is meant where none is named, and that mining pays."""

SUFFIX: Final = ".wallet"
"""What a wallet's file is called after its name."""

WALLET_MAGIC: Final = b"UNCHAINED-WALLET"
"""What a file begins with; a byte with the version follows."""

WALLET_FILE_VERSION: Final = 3
"""Of files that are written. 2 looked for no further accounts. 1 was of networks that are no more:
what it says of heights does not hold, all else does."""

BIP39_PASSPHRASE_BYTES_MAX: Final = 1_024
"""Bytes of a BIP 39 passphrase: what is sealed has to have room for it."""

_ONE_AT_A_TIME: Final = threading.Lock()
"""Held while a passphrase is stretched: each takes hundreds of megabytes, and OpenSSL's threads for
Argon2id's lanes wait for one another for ever where two derivations share them."""

_CHECKSUM: Final = HashContext("wallet file")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_PASSPHRASE_KIB: Final = 32


class _Secret(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is sealed: the mnemonic's entropy and the passphrase of BIP 39, in UTF-8."""

    entropy: Bytes32
    bip39_passphrase: Annotated[bytes, msgspec.Meta(max_length=BIP39_PASSPHRASE_BYTES_MAX)]

    def __repr__(self) -> str:
        return "<_Secret>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SpendSecret:
    """What an unlocked wallet holds: every key of its user. Drop it to lock the wallet."""

    _seed: bytes = field(repr=False)
    _entropy: bytes = field(repr=False)
    _bip39_passphrase: str = field(repr=False)

    @classmethod
    def of(cls, mnemonic: str, bip39_passphrase: str = "") -> SpendSecret:
        """Take in 24 words. Raises `MnemonicError`."""
        size = len(bip39_passphrase.encode())
        if size > BIP39_PASSPHRASE_BYTES_MAX:
            raise MnemonicError(
                f"a BIP 39 passphrase has at most {BIP39_PASSPHRASE_BYTES_MAX} bytes, got {size}"
            )
        seed = mnemonic_seed(mnemonic, bip39_passphrase)
        words = " ".join(Mnemonic.normalize_string(mnemonic).lower().split())
        return cls(seed, bytes(english().to_entropy(words)), bip39_passphrase)

    def account(self, chain_id: int, index: int) -> Account:
        """Derive an account."""
        return derive_account(self._seed, chain_id, index)

    def mnemonic(self) -> str:
        """Return the 24 words, to be written down."""
        return new_mnemonic(self._entropy)

    @property
    def has_bip39_passphrase(self) -> bool:
        """Whether the words alone do not bring the keys back."""
        return bool(self._bip39_passphrase)

    def to_bytes(self) -> bytes:
        """Return what is sealed."""
        return encode(_Secret(self._entropy, self._bip39_passphrase.encode()))

    @classmethod
    def from_bytes(cls, raw: bytes) -> SpendSecret:
        """Read what was sealed. Raises `NonCanonicalError`."""
        secret = _SECRET.decode(raw)
        return cls.of(new_mnemonic(secret.entropy), secret.bip39_passphrase.decode())

    def __repr__(self) -> str:
        return "<SpendSecret>"


class Keystore(msgspec.Struct, frozen=True):
    """One wallet's file as it was read. Immutable: what changes it returns another.

    Nothing here reads or writes but `load` and `save`.
    """

    network: Network
    file: WalletFile
    version: int = WALLET_FILE_VERSION

    @classmethod
    def create(
        cls,
        network: Network,
        secret: SpendSecret,
        passphrase: str,
        *,
        birth: int = 0,
        accounts: int = 1,
        look_further: bool = False,
        cost: KdfCost = DEFAULT_COST,
        allow_empty: bool = False,
        randomness: Randomness = SYSTEM,
    ) -> Keystore:
        """Seal a secret under a passphrase; takes a second, by design.

        `birth`: a height below which there are no coins of it. `look_further`: it may have had more
        accounts, which are looked for. Raises `EmptyPassphraseError`,
        `AccountLimitError`.
        """
        if not 1 <= accounts <= MAX_ACCOUNTS:
            raise AccountLimitError(MAX_ACCOUNTS)
        watched = tuple(
            WatchKeys.of(secret.account(network.chain_id, index)) for index in range(accounts)
        )
        further = tuple(
            WatchKeys.of(secret.account(network.chain_id, index))
            for index in range(accounts, MAX_ACCOUNTS if look_further else accounts)
        )
        clear = ClearPart(network.chain_id, birth, watched, cost, b"", 0, further)
        return _seal(
            network, clear, secret, passphrase, allow_empty=allow_empty, randomness=randomness
        )

    @classmethod
    def watch(
        cls,
        network: Network,
        accounts: tuple[WatchKeys, ...],
        birth: int = 0,
        further: tuple[WatchKeys, ...] = (),
    ) -> Keystore:
        """Make a watch-only wallet of what another wallet exported."""
        cost = KdfCost(32, 1, 1)
        clear = ClearPart(network.chain_id, birth, accounts, cost, bytes(16), 0, further)
        return cls(network, WalletFile(clear, bytes(12), b""))

    @classmethod
    def load(cls, path: Path, network: Network) -> Keystore:
        """Read a file. Raises OSError, `KeystoreCorruptError`, `OtherNetworkWalletError`."""
        return cls.from_bytes(path.read_bytes()[: WALLET_FILE_BYTES_MAX + 1], network, path.name)

    @classmethod
    def from_bytes(cls, raw: bytes, network: Network, name: str = "the wallet file") -> Keystore:
        """Read a file's content. Raises `KeystoreCorruptError`, `OtherNetworkWalletError`."""
        if not raw.startswith(WALLET_MAGIC):
            raise KeystoreCorruptError(f"{name} is no wallet file: it does not begin like one")
        head = raw[: len(WALLET_MAGIC) + 1]
        if not 1 <= head[-1] <= WALLET_FILE_VERSION:
            raise KeystoreCorruptError(
                f"{name} is of version {head[-1]}, expected versions 1 to {WALLET_FILE_VERSION}"
            )
        body, checksum = raw[:-32], raw[-32:]
        if len(raw) > WALLET_FILE_BYTES_MAX or _CHECKSUM(body) != checksum:
            raise KeystoreCorruptError(
                f"{name} is damaged: its checksum is wrong; restore a backup"
            )
        try:
            file = WalletFile.from_bytes(body[len(head) :], head[-1])
        except NonCanonicalError as error:
            raise KeystoreCorruptError(f"{name} is damaged: {error.in_words()}") from None
        if file.clear.chain_id != network.chain_id:
            other = NETWORK_NAMES.get(file.clear.chain_id, hex(file.clear.chain_id))
            raise OtherNetworkWalletError(f"{name} is for network {other}, expected {network.name}")
        return cls(network, file, head[-1])

    def save(self, path: Path) -> None:
        """Replace the file, atomically, mode 0600. Raises OSError."""
        # a link is followed: what it leads to is replaced
        write_private(path.resolve(), self._readable())

    def save_new(self, path: Path) -> None:
        """Write a file that is not there yet, as `save` does. Raises FileExistsError, OSError."""
        write_private(path, self._readable(), replace=False)

    def _readable(self) -> bytes:
        """Return the file's content, read back: it replaces what can be read."""
        content = self.to_bytes()
        if Keystore.from_bytes(content, self.network).file != self.file:
            raise KeystoreCorruptError("the wallet file would not be read as written: not written")
        return content

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        body = self._head + self.file.to_bytes(self.version)
        return body + _CHECKSUM(body)

    @property
    def _head(self) -> bytes:
        return WALLET_MAGIC + bytes((self.version,))

    @property
    def watch_only(self) -> bool:
        """Whether there is no spend key."""
        return not self.file.sealed

    @property
    def has_passphrase(self) -> bool:
        """Whether a passphrase is needed to spend."""
        return bool(self.file.sealed) and not self.file.clear.flags & NO_PASSPHRASE

    @property
    def has_bip39_passphrase(self) -> bool | None:
        """Whether the mnemonic alone does not bring the wallet back; None where only its keys
        would tell."""
        if self.version == 1 and self.file.sealed:
            return None
        return bool(self.file.clear.flags & WITH_BIP39_PASSPHRASE)

    @property
    def birth(self) -> int:
        """A height below which the wallet has no coins."""
        return self.file.clear.birth if self.version != 1 else 0

    @property
    def accounts(self) -> tuple[WatchKeys, ...]:
        """The accounts' watch keys, by index."""
        return self.file.clear.accounts

    @property
    def further(self) -> tuple[WatchKeys, ...]:
        """The watch keys of the accounts that it may turn out to have, by index."""
        return self.file.clear.further

    def account(self, index: int) -> WatchKeys:
        """Return one account's watch keys. Raises `NoSuchAccountError`."""
        for keys in self.accounts:
            if keys.index == index:
                return keys
        raise NoSuchAccountError(index)

    def unlock(self, passphrase: str) -> SpendSecret:
        """Open the sealed part; takes a second, by design.

        Raises `WatchOnlyError`, `WrongPassphraseError`, `KeystoreCorruptError`.
        """
        if self.watch_only:
            raise WatchOnlyError
        clear = self.file.clear
        cipher = ChaCha20Poly1305(_stretch(passphrase, clear))
        bound = self._head + clear.to_bytes(self.version)
        try:
            raw = cipher.decrypt(self.file.nonce, self.file.sealed, bound)
        except InvalidTag:
            raise WrongPassphraseError from None
        try:
            return SpendSecret.from_bytes(raw)
        except (NonCanonicalError, ValueError):
            raise KeystoreCorruptError("what the wallet file seals is no mnemonic") from None

    def with_passphrase(
        self,
        secret: SpendSecret,
        passphrase: str,
        *,
        cost: KdfCost | None = None,
        allow_empty: bool = False,
        randomness: Randomness = SYSTEM,
    ) -> Keystore:
        """Return the wallet under another passphrase. Raises `EmptyPassphraseError`."""
        clear = self.file.clear
        if cost is None:
            cost = DEFAULT_COST if clear.flags & NO_PASSPHRASE else clear.cost
        clear = msgspec.structs.replace(clear, birth=self.birth, cost=cost)
        return _seal(
            self.network,
            clear,
            secret,
            passphrase,
            allow_empty=allow_empty,
            randomness=randomness,
        )

    def with_account(
        self,
        passphrase: str,
        shown: tuple[WatchKeys, ...] = (),
        *,
        randomness: Randomness = SYSTEM,
    ) -> Keystore:
        """Return the wallet with one more account than those that it has been `shown` to have,
        sealed anew under its passphrase.

        Raises `WrongPassphraseError` if that is not the present one, `AccountLimitError`.
        """
        secret = self.unlock(passphrase)
        clear = self.file.clear
        accounts = shown or clear.accounts
        if len(accounts) == MAX_ACCOUNTS:
            raise AccountLimitError(MAX_ACCOUNTS)
        index = max(keys.index for keys in accounts) + 1
        keys = WatchKeys.of(secret.account(self.network.chain_id, index))
        further = tuple(keys for keys in clear.further if keys.index > index)
        clear = msgspec.structs.replace(
            clear, birth=self.birth, accounts=(*accounts, keys), further=further
        )
        return _seal(
            self.network,
            clear,
            secret,
            passphrase,
            allow_empty=bool(clear.flags & NO_PASSPHRASE),
            randomness=randomness,
        )


def _seal(
    network: Network,
    clear: ClearPart,
    secret: SpendSecret,
    passphrase: str,
    *,
    allow_empty: bool,
    randomness: Randomness,
) -> Keystore:
    if not passphrase and not allow_empty:
        raise EmptyPassphraseError
    # what everyone can open gains nothing from being slow to open
    cost = clear.cost if passphrase else KdfCost(_NO_PASSPHRASE_KIB, 1, 1)
    flags = 0 if passphrase else NO_PASSPHRASE
    if secret.has_bip39_passphrase:
        flags |= WITH_BIP39_PASSPHRASE
    clear = msgspec.structs.replace(clear, cost=cost, salt=randomness.token_bytes(16), flags=flags)
    nonce = randomness.token_bytes(12)
    cipher = ChaCha20Poly1305(_stretch(passphrase, clear))
    sealed = cipher.encrypt(
        nonce,
        secret.to_bytes(),
        WALLET_MAGIC + bytes((WALLET_FILE_VERSION,)) + clear.to_bytes(WALLET_FILE_VERSION),
    )
    return Keystore(network, WalletFile(clear, nonce, sealed))


def _stretch(passphrase: str, clear: ClearPart) -> bytes:
    """Return the sealing key of a passphrase, as typed in whatever Unicode form."""
    cost = clear.cost
    kdf = Argon2id(
        salt=clear.salt,
        length=32,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=max(cost.memory_kib, 8 * cost.lanes),
    )
    with _ONE_AT_A_TIME:
        return kdf.derive(Mnemonic.normalize_string(passphrase).encode())


def wallet_path(directory: Path, name: str) -> Path:
    """Return where a wallet's file is, or would be. Raises `BadWalletNameError`."""
    if _NAME.fullmatch(name) is None:
        raise BadWalletNameError(name)
    return directory / f"{name}{SUFFIX}"


def new_wallet_path(directory: Path, name: str) -> Path:
    """Return where the file of a wallet that gets its name will be. Raises `BadWalletNameError`.

    A name that begins with - is one that commands of `notify.command` would read as an option.
    """
    if name.startswith("-"):
        raise BadWalletNameError(name)
    return wallet_path(directory, name)


def wallet_names(directory: Path) -> list[str]:
    """Return the names of the wallets in a directory, in order."""
    if not directory.is_dir():
        return []
    found = (path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}"))
    return sorted(name for name in found if _NAME.fullmatch(name))


def new_secret(randomness: Randomness = SYSTEM) -> SpendSecret:
    """Return a secret that nobody has had before."""
    return SpendSecret.of(new_mnemonic(randomness.token_bytes(32)))


_SECRET = CanonicalDecoder(_Secret, max_size=4_096)

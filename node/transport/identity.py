"""The node's network identity: an Ed25519 key in a file that only its owner can read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID

from unchained.node.base.files import read_private, write_private
from unchained.node.base.randomness import SYSTEM
from unchained.node.transport.contract import BadIdentityError, PeerId

IDENTITY_FILE_HEADER: Final = "unchained identity 1"
PEER_KEY_FILE: Final = "peer-key"
"""File of the data directory with the key that peers know the node by."""
KEY_FILE_BYTES_MAX: Final = 1_024
_FORM = re.compile(rf"{IDENTITY_FILE_HEADER}\n([0-9a-f]{{64}})\n?\Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair and the peer id that it proves."""

    peer: PeerId
    key_pair: KeyPair = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """Return the identity of a 32-byte secret seed."""
        key_pair = create_new_key_pair(seed)
        return cls(PeerId(ID.from_pubkey(key_pair.public_key).to_base58()), key_pair)

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """Read the key file, or make one, mode 0600, that is there whole or not at all.

        Raises `BadIdentityError` with one line that names the file and what is wrong."""
        try:
            return cls.load(path)
        except FileNotFoundError:
            return cls._create(path)

    @classmethod
    def load(cls, path: Path, *, close: bool = True) -> Identity:
        """Read the key file; one that others can read is closed to them, or without `close`
        refused. Raises FileNotFoundError, and `BadIdentityError` as `load_or_create`."""
        try:
            text = read_private(path, KEY_FILE_BYTES_MAX, close=close).decode("ascii")
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise BadIdentityError(f"cannot read the identity key {path}: {_why(error)}") from None
        found = _FORM.match(text)
        if found is None:
            raise BadIdentityError(
                f"{path} is no identity key: expected {IDENTITY_FILE_HEADER!r} and a line of "
                "64 hex digits; restore it, or move it away to be given another identity"
            )
        return cls.from_seed(bytes.fromhex(found[1]))

    @classmethod
    def _create(cls, path: Path) -> Identity:
        seed = SYSTEM.token_bytes(32)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, f"{IDENTITY_FILE_HEADER}\n{seed.hex()}\n".encode("ascii"))
        except OSError as error:
            raise BadIdentityError(f"cannot write the identity key {path}: {_why(error)}") from None
        return cls.from_seed(seed)


def _why(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not text"

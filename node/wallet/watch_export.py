"""What a watch-only copy of a wallet is made of, as text.

text = "watch:" ‖ base64url without padding of (MessagePack array ‖ checksum, 4 bytes)
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.types import UInt64
from unchained.node.wallet.errors import KeystoreCorruptError
from unchained.node.wallet.wallet_file import MAX_ACCOUNTS, WatchKeys

WATCH_PREFIX: Final = "watch:"
"""What the text of an exported view of a wallet begins with."""

_CHECKSUM: Final = HashContext("wallet watch")


class WatchExport(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a watch-only wallet is made of. It sees everything and spends nothing: keep it to
    yourself. `birth` is a height below which there are no coins."""

    chain_id: UInt64
    birth: UInt64
    accounts: Annotated[tuple[WatchKeys, ...], msgspec.Meta(min_length=1, max_length=MAX_ACCOUNTS)]

    def to_text(self) -> str:
        """Return the text to be imported."""
        raw = encode(self)
        raw += _CHECKSUM(raw)[:4]
        return WATCH_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str, network: Network) -> WatchExport:
        """Read a text. Raises `KeystoreCorruptError`."""
        body = text.removeprefix(WATCH_PREFIX)
        try:
            padded = body.encode("ascii") + b"=" * (-len(body) % 4)
            raw = base64.b64decode(padded, b"-_", validate=True)
            if body == text or _CHECKSUM(raw[:-4])[:4] != raw[-4:]:
                raise KeystoreCorruptError("not an exported view of a wallet: mistyped or cut")
            exported = _EXPORT.decode(raw[:-4])
        except (binascii.Error, UnicodeEncodeError, NonCanonicalError):
            raise KeystoreCorruptError("not an exported view of a wallet: malformed") from None
        if exported.chain_id != network.chain_id:
            raise KeystoreCorruptError(f"the view is of another network, expected {network.name}")
        return exported

    def __repr__(self) -> str:
        return "<WatchExport>"


_EXPORT: CanonicalDecoder[WatchExport] = CanonicalDecoder(WatchExport, max_size=1 << 20)

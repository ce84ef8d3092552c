"""What a watch-only copy of a wallet is made of, as text (`checked_text`) of a MessagePack array.

No watch key leads to another account's: each account has keys of its own, from the words. So the
text of a restored wallet also holds the watch keys of the accounts that it may turn out to have,
and a copy finds them as that wallet does; a wallet that was not restored has no further accounts
until one is added to it, and then exports another text.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.types import UInt64
from unchained.node.wallet.checked_text import CheckedText, MalformedTextError
from unchained.node.wallet.errors import KeystoreCorruptError
from unchained.node.wallet.wallet_file import MAX_ACCOUNTS, WatchKeys

WATCH_PREFIX: Final = "watch:"
"""What the text of an exported view of a wallet begins with."""

_TEXT: Final = CheckedText(WATCH_PREFIX, HashContext("wallet watch"))
_ARRAY_OF_THREE: Final = 0x93
"""How MessagePack begins an array without `further`."""


class WatchExportCore(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a text holds of a wallet that has no further accounts to look for."""

    chain_id: UInt64
    birth: UInt64
    accounts: Annotated[tuple[WatchKeys, ...], msgspec.Meta(min_length=1, max_length=MAX_ACCOUNTS)]


class WatchExport(WatchExportCore, array_like=True, frozen=True, gc=False):
    """What a watch-only wallet is made of. It sees everything and spends nothing: keep it to
    yourself. `birth` is a height below which there are no coins; `further` are accounts that it may
    turn out to have."""

    further: Annotated[tuple[WatchKeys, ...], msgspec.Meta(max_length=MAX_ACCOUNTS)] = ()

    def to_text(self) -> str:
        """Return the text to be imported."""
        if self.further:
            return _TEXT.write(encode(self))
        return _TEXT.write(encode(WatchExportCore(self.chain_id, self.birth, self.accounts)))

    @classmethod
    def from_text(cls, text: str, network: Network) -> WatchExport:
        """Read a text. Raises `KeystoreCorruptError`."""
        try:
            raw = _TEXT.read(text)
            if raw[:1] == bytes((_ARRAY_OF_THREE,)):
                exported = cls(*msgspec.structs.astuple(_CORE.decode(raw)))
            else:
                exported = _EXPORT.decode(raw)
        except MalformedTextError as error:
            raise KeystoreCorruptError(f"not an exported view of a wallet: {error}") from None
        except NonCanonicalError:
            raise KeystoreCorruptError("not an exported view of a wallet: malformed") from None
        if exported.chain_id != network.chain_id:
            raise KeystoreCorruptError(f"the view is of another network, expected {network.name}")
        return exported

    def __repr__(self) -> str:
        return "<WatchExport>"


_CORE: CanonicalDecoder[WatchExportCore] = CanonicalDecoder(WatchExportCore, max_size=1 << 20)
_EXPORT: CanonicalDecoder[WatchExport] = CanonicalDecoder(WatchExport, max_size=1 << 20)

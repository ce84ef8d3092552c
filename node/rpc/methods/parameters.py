"""Parameters that several rooms' methods take."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import PayeeError, address_lock, decode_address
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import InvalidParamsError, short
from unchained.node.rpc.core.values import Hash

MAX_NUMBER: Final = 2**63 - 1

Height = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER, description="anchors since genesis")]
Offset = Annotated[
    int, msgspec.Meta(ge=0, le=MAX_NUMBER, description="how many entries to pass over")
]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="most entries to return")]
AnchorId = Annotated[Hash, msgspec.Meta(description="the id of an anchor")]
CoinRef = Annotated[Hash, msgspec.Meta(description="the id of a coin")]
MintedCoinId = Annotated[
    Hash, msgspec.Meta(description="the id of a minted coin, which an anchor is as well")
]
Payee = Annotated[
    str, msgspec.Meta(min_length=1, max_length=128, description="an address of this network")
]


def lock_of_payee(text: str, network: Network) -> Lock:
    """Return the lock of an address. Raises `InvalidParamsError` with the word BAD_ADDRESS."""
    try:
        return address_lock(decode_address(network, text))
    except PayeeError as error:
        raise InvalidParamsError(short(f"address: {error}"), error="BAD_ADDRESS") from None

"""wallet.*: what a wallet can show to others, and looking at what others show."""

from __future__ import annotations

from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.wallet_shapes import (
    Account,
    PayeeText,
    WalletName,
    memo_text,
)
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.proofs import sign_message
from unchained.node.wallet.reserve_proof import RESERVE_MESSAGE_BYTES_MAX
from unchained.node.wallet.signed_message import MESSAGE_BYTES_MAX, SignedMessage

PROVING_S = 120.0
"""A receipt of many anchors or a proof of many coins takes its time."""

MessageText = Annotated[
    str, msgspec.Meta(max_length=MESSAGE_BYTES_MAX, description="text, signed as UTF-8")
]
Challenge = Annotated[
    str,
    msgspec.Meta(
        max_length=RESERVE_MESSAGE_BYTES_MAX,
        description="what whoever asks for the proof wants to see signed",
    ),
]


@user_text(
    """A signed message: what is said, by the holder of which address. A message that is no text is
    in hex."""
)
class SignedMessageInfo(msgspec.Struct, frozen=True):
    address: str
    key_hash: Hash
    message: str
    file: Hex


class ProofRoom:
    """Methods that prove something of a wallet, or read such a proof."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    @method(
        "wallet.receipt",
        Access.FULL,
        scope=Scope.READ,
        timeout=PROVING_S,
        errors=(WalletRefusedError,),
    )
    @user_text(
        """Return a file that proves a transfer on the chain to anyone without a node, and whom it
        pays: of a transfer that the wallet made all payees, or with `payees` those alone; of
        another one the wallet.

        Whoever has the file can read the memos of the payees that it shows.
        """
    )
    async def receipt(
        self,
        txid: Hash,
        wallet: WalletName = DEFAULT_WALLET,
        anchors: Annotated[
            int, msgspec.Meta(ge=1, le=1024, description="show the work of so many anchors")
        ] = 64,
        *,
        payees: Annotated[
            list[PayeeText],
            msgspec.Meta(max_length=255, description="these payees alone; an empty list: none"),
        ]
        | None = None,
    ) -> Hex:
        return Hex(await self._wallets.receipt(wallet, bytes(txid), anchors=anchors, payees=payees))

    @method("wallet.sign_message", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Sign a message by the key of an account's address, with an unlocked wallet.

        No transfer can be made of such a signature.
        """
    )
    async def sign_message(
        self,
        message: MessageText,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        account: Account = 0,
    ) -> SignedMessageInfo:
        content = message.encode()
        signed = await self._wallets.call(
            wallet, lambda opened: sign_message(opened, content, account)
        )
        return self._describe(signed)

    @method("wallet.verify_message", Access.READ, errors=(WalletRefusedError,))
    @user_text("Check a signed message, and return what it says and whose address signed it.")
    async def verify_message(
        self,
        file: Hex,
        *,
        signer: Annotated[
            PayeeText, msgspec.Meta(description="the address or paycode that must have signed")
        ]
        | None = None,
    ) -> SignedMessageInfo:
        signed = SignedMessage.from_file(bytes(file), self._wallets.network)
        if signer is not None:
            signed.check_signer(self._wallets.network, signer)
        return self._describe(signed)

    def _describe(self, signed: SignedMessage) -> SignedMessageInfo:
        return SignedMessageInfo(
            signed.address(self._wallets.network),
            Hash(signed.key_hash),
            memo_text(signed.message),
            Hex(signed.to_file()),
        )

    @method("wallet.prove_reserve", Access.FULL, timeout=PROVING_S, errors=(WalletRefusedError,))
    @user_text(
        """Return a file that shows to anyone without a node that an unlocked wallet held at least
        an amount in the state that the tip commits to.

        It names the coins, the largest first, with their proofs, and signs `message` by the keys
        that spend them. Coins of the tip itself cannot be proven yet.
        """
    )
    async def prove_reserve(
        self,
        amount: Amount,
        message: Challenge,
        wallet: WalletName = DEFAULT_WALLET,
    ) -> Hex:
        return Hex(await self._wallets.prove_reserve(wallet, int(amount), message.encode()))

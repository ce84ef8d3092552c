"""What a wallet can show to others: that it paid or was paid, that it holds coins, that it says
something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unchained.node.base.number_words import number_of
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.crypto.addresses import OutputPlace
from unchained.node.crypto.keys import CIPHERTEXT_SIZE
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.transfer import Transfer
from unchained.node.primitives.types import KeyHash
from unchained.node.wallet.errors import (
    BadPaymentError,
    ReceiptError,
    ReserveProofError,
)
from unchained.node.wallet.link import CoinProver
from unchained.node.wallet.payment_request import memo_for, payee_of
from unchained.node.wallet.receipts import make_receipt
from unchained.node.wallet.records import AccountRef, Origin, PaymentSecret
from unchained.node.wallet.reserve_proof import (
    RESERVE_COINS_MAX,
    RESERVE_MESSAGE_BYTES_MAX,
    ReserveProof,
)
from unchained.node.wallet.signed_message import SignedMessage
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.kv import Snapshot


def sign_message(wallet: Wallet, message: bytes, account: AccountRef = 0) -> SignedMessage:
    """Sign a message by the key of an account's address.

    Raises `WalletLockedError`, `WatchOnlyError`, `NoSuchAccountError`, `SignedMessageError`.
    """
    key = wallet.spend_key(account)
    return SignedMessage.sign(wallet.network, message, key, wallet.randomness)


def prove_payment(
    wallet: Wallet,
    view: Snapshot,
    txid: bytes,
    *,
    anchors: int = 64,
    payees: Sequence[str] | None = None,
) -> bytes:
    """Return the receipt of a transfer on the main chain that shows whom it pays: of one that the
    wallet made all payees, or those named; of another one the wallet itself.

    Raises `ReceiptError`, `BadPaymentError` for a name that is no payee.
    """
    secrets = _secrets(wallet, view, txid)
    if payees is not None:
        secrets = _only(wallet, txid, secrets, payees)
    return make_receipt(view, wallet.network, txid, anchors=anchors, secrets=secrets)


def _secrets(wallet: Wallet, view: Snapshot, txid: bytes) -> tuple[PaymentSecret, ...]:
    """Return what shows whom a transfer pays, as far as the wallet knows that."""
    sent = wallet.store.outgoing_or_none(txid)
    if sent is not None:
        return sent.secrets
    place = schema.TXID.get(view, txid)
    raw = None if place is None else schema.TRANSFER.get(view, place.wid)
    if raw is None:
        return ()
    outputs = Transfer.from_bytes(raw).outputs
    return tuple(
        PaymentSecret(
            coin.index,
            wallet.account(coin.account).view.decapsulate(
                outputs[coin.index].note[:CIPHERTEXT_SIZE]
            ),
        )
        for coin in wallet.store.coins_of(txid)[0]
        if coin.origin is Origin.PAYCODE
    )


def _only(
    wallet: Wallet, txid: bytes, secrets: Sequence[PaymentSecret], payees: Sequence[str]
) -> tuple[PaymentSecret, ...]:
    """Return those of the secrets that show payments to some payees. Raises `ReceiptError` for one
    to whom no payment could be shown."""
    sent = wallet.store.outgoing(txid)
    transfer, network = Transfer.from_bytes(sent.raw), wallet.network
    paid = Counter(paid_one.payee for paid_one in sent.payees)
    shared = {secret.index: secret.shared for secret in secrets}
    chosen: set[int] = set()
    for payee in payees:
        if payee not in paid:
            raise ReceiptError(f"transfer {txid.hex()} does not pay {payee[:40]}")
        # As whoever reads the receipt finds them: the order of the payees says nothing of where
        # change stands.
        found = {
            at
            for at, output in enumerate(transfer.outputs)
            if memo_for(
                network,
                payee,
                OutputPlace(transfer.inputs[0].coin_id, at),
                output,
                shared.get(at, b""),
            )
            is not None
        }
        if payee_of(network, payee).note_size and len(found) < paid[payee]:
            raise ReceiptError(
                f"what shows that transfer {txid.hex()} pays {payee[:40]}… was not kept"
            )
        chosen |= found
    return tuple(secret for secret in secrets if secret.index in chosen)


def prove_reserve(
    wallet: Wallet, view: Snapshot, prover: CoinProver, amount: int, message: bytes
) -> ReserveProof:
    """Show that the wallet holds at least `amount` grains, by its largest coins.

    Raises `ReserveProofError` where it does not, or where that takes too many coins;
    `WalletLockedError`, `WatchOnlyError`.
    """
    if amount <= 0:
        raise BadPaymentError("a reserve is more than nothing")
    if len(message) > RESERVE_MESSAGE_BYTES_MAX:
        raise ReserveProofError(
            f"a message has at most {RESERVE_MESSAGE_BYTES_MAX} bytes, got {len(message)}"
        )
    last = wallet.store.last_anchor()
    below = 0 if last is None else last[0]
    chosen: list[tuple[CoinProof, KeyHash, bytes]] = []
    accounts: set[int] = set()
    total = 0
    for coin in wallet.store.reserves(below, RESERVE_COINS_MAX):
        if total >= amount:
            break
        proof = prover.prove_coin(view, coin.coin_id)
        if proof is None or proof.earlier:
            # spent since the wallet last looked
            continue
        chosen.append((proof, wallet.account(coin.account).key_hash, coin.salt))
        accounts.add(coin.account)
        total += coin.value
    if total < amount:
        raise ReserveProofError(
            f"what can be proven now is worth {shortest(total)} UNC, in "
            f"{number_of(len(chosen), 'coin')}, "
            f"expected {shortest(amount)} UNC (at most {RESERVE_COINS_MAX} coins; those of "
            "the tip take another anchor)"
        )
    keys = [wallet.spend_key(account) for account in sorted(accounts)]
    return ReserveProof.make(wallet.network, message, chosen, keys, wallet.randomness)

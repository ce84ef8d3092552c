"""Whom to pay and how much: amounts, payees, payment URIs and their QR codes.

    unchained:PAYEE?amount=UNC&memo=TEXT&label=TEXT

PAYEE is an address or a paycode; all parameters are optional, percent-encoded, in UTF-8. A
parameter that begins with `req-` has to be understood: the URI is refused otherwise.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import DUST
from unchained.node.crypto.addresses import (
    MAX_MEMO,
    NOTE_SIZE,
    MalformedPayeeError,
    OutputPlace,
    Paycode,
    PayeeError,
    address_lock,
    decode_address,
    decode_paycode,
    paid_memo,
    seal_note,
)
from unchained.node.primitives.amounts import check_amount, grains_of, shortest
from unchained.node.primitives.transfer import Output
from unchained.node.primitives.types import Lock
from unchained.node.wallet.contracts import CONTRACT_PREFIX, Contract
from unchained.node.wallet.errors import BadPaymentError, ContractError, PaymentRequestError
from unchained.node.wallet.records import Payee

if TYPE_CHECKING:
    import segno

QR_BYTES_MAX: Final = 2_953
"""What the largest QR code holds: version 40, least correction."""

SCHEME: Final = "unchained:"
"""What a payment URI begins with."""

URI_CHARS_MAX: Final = 8_192
"""Characters of a payment URI that is looked at: more than the longest payee, memo and label
take, each of their bytes as three characters."""

LABEL_CHARS_MAX: Final = 256
"""Characters of a label, in a URI or in a wallet."""

LOCK_PREFIX: Final = "lock:"
"""What a lock begins with where it is paid: bare hex digits may be anything, a txid among them."""

_HEX_DIGITS: Final = re.compile(r"[0-9a-fA-F]{64}")
_ADDRESS_CHARS: Final = 90


def parse_amount(text: str) -> int:
    """Return the grains of a decimal amount of UNC. Raises `BadPaymentError`."""
    try:
        return grains_of(text)
    except ValueError as error:
        raise BadPaymentError(str(error)) from None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An output whose place in a transfer is not known yet, and without that no note can be
    sealed: to a lock, or to a paycode with a memo. `value` in grains."""

    value: int
    to: Lock | Paycode
    memo: bytes = b""

    @property
    def note_size(self) -> int:
        """Bytes of the note that the output will have."""
        return NOTE_SIZE if isinstance(self.to, Paycode) else 0

    def at(self, place: OutputPlace, randomness: Randomness = SYSTEM) -> tuple[Output, bytes]:
        """Return the output, with a secret of its own each time if it is to a paycode, and that
        secret, else nothing."""
        if not isinstance(self.to, Paycode):
            return Output(self.value, self.to, b""), b""
        sealed = seal_note(self.to, place, self.memo, randomness=randomness)
        return Output(self.value, sealed.lock, sealed.note), sealed.shared


def draft_for(network: Network, payee: Payee) -> Draft:
    """Return an output that pays an address, a paycode, a contract, or a lock (lock:HEX).

    Raises `BadPaymentError` naming what is wrong.
    """
    value, memo = payee.value, payee.memo
    try:
        check_amount(value, DUST)
    except ValueError as error:
        raise BadPaymentError(f"a payment of {error}") from None
    if len(memo) > MAX_MEMO:
        raise BadPaymentError(f"a memo has at most {MAX_MEMO} bytes, got {len(memo)}")
    text = payee.payee
    try:
        if len(text) > _ADDRESS_CHARS and not text.startswith(CONTRACT_PREFIX):
            return Draft(value, decode_paycode(network, text), memo)
        lock = _plain_lock(network, text)
    except (PayeeError, ContractError) as error:
        raise BadPaymentError(str(error)) from None
    if memo:
        raise BadPaymentError(f"only a paycode can be paid with a memo, not {text[:90]}")
    return Draft(value, lock)


def payee_of(network: Network, text: str) -> Draft:
    """Return an output to an address, a paycode, a contract or a lock, worth next to nothing.

    Raises `BadPaymentError` for what is no payee.
    """
    return draft_for(network, Payee(text, DUST, b""))


def memo_for(
    network: Network, text: str, place: OutputPlace, output: Output, shared: bytes
) -> bytes | None:
    """Return the memo with which an output pays a payee, None where it does not pay that one.

    `shared` proves it of a paycode (`crypto.addresses.paid_memo`). Raises `BadPaymentError` for
    what is no payee.
    """
    draft = draft_for(network, Payee(text, max(output.value, DUST), b""))
    lock = Lock(output.lock)
    if isinstance(draft.to, Paycode):
        return paid_memo(draft.to, place, lock, output.note, shared)
    return b"" if draft.to == lock and not output.note else None


def _plain_lock(network: Network, text: str) -> Lock:
    if text.startswith(CONTRACT_PREFIX):
        return Contract.from_text(text, network).lock
    if text.startswith(LOCK_PREFIX):
        digits = text.removeprefix(LOCK_PREFIX)
        if _HEX_DIGITS.fullmatch(digits) is None:
            raise MalformedPayeeError(f"a lock is {LOCK_PREFIX} and 64 hex digits")
        return Lock(bytes.fromhex(digits))
    if _HEX_DIGITS.fullmatch(text):
        raise MalformedPayeeError(
            f"64 hex digits may be an id as well as a lock: to pay a lock write {LOCK_PREFIX}HEX"
        )
    return address_lock(decode_address(network, text))


class PaymentRequest(msgspec.Struct, frozen=True):
    """What a payment URI asks for. `value` in grains, None if the payer chooses."""

    payee: str
    value: int | None = None
    memo: str = ""
    label: str = ""

    @classmethod
    def checked(
        cls, network: Network, payee: str, value: int | None, memo: str, label: str
    ) -> PaymentRequest:
        """Return a request whose URI can be read and paid. Raises `PaymentRequestError`."""
        return cls.from_uri(network, cls(payee, value, memo, label).to_uri())

    def to_uri(self) -> str:
        """Return the URI."""
        fields: Sequence[tuple[str, str]] = [
            ("amount", "" if self.value is None else shortest(self.value)),
            ("memo", self.memo),
            ("label", self.label),
        ]
        query = urlencode([field for field in fields if field[1]], quote_via=quote)
        return f"{SCHEME}{self.payee}{'?' if query else ''}{query}"

    @classmethod
    def from_uri(cls, network: Network, uri: str) -> PaymentRequest:
        """Read a URI and check its payee. Raises `PaymentRequestError`."""
        if uri[: len(SCHEME)].lower() != SCHEME:
            raise PaymentRequestError(f"not a payment URI: expected {SCHEME}PAYEE?amount=…")
        if len(uri) > URI_CHARS_MAX:
            raise PaymentRequestError(
                f"a payment URI has at most {URI_CHARS_MAX} characters, got {len(uri)}"
            )
        payee, _, query = uri[len(SCHEME) :].partition("?")
        try:
            pairs = parse_qsl(
                query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"
            )
            fields = dict(pairs)
            if len(fields) != len(pairs):
                raise PaymentRequestError("the payment URI says something twice")
            unknown = [name for name in fields if name.startswith("req-")]
            if unknown:
                raise PaymentRequestError(
                    f"the payment URI requires {unknown[0]}, which is not known"
                )
            value = parse_amount(fields["amount"]) if "amount" in fields else None
            memo = fields.get("memo", "")
            probe = Payee(payee, DUST if value is None else value, memo.encode())
            if not payee or payee.startswith((CONTRACT_PREFIX, LOCK_PREFIX)):
                raise MalformedPayeeError("the payee is neither an address nor a paycode")
            draft_for(network, probe)
        except UnicodeDecodeError:
            raise PaymentRequestError("the payment URI says something that is no UTF-8") from None
        except (ValueError, BadPaymentError) as error:
            raise PaymentRequestError(f"the payment URI cannot be paid: {error}") from None
        label = fields.get("label", "")
        if len(label) > LABEL_CHARS_MAX:
            raise PaymentRequestError(
                f"a label has at most {LABEL_CHARS_MAX} characters, got {len(label)}"
            )
        return cls(payee, value, memo, label)


def qr_terminal(text: str) -> str:
    """Return a QR code of half blocks, for a terminal. Raises `TooLongForQrError`."""
    shown = io.StringIO()
    _qr(text).terminal(shown, compact=True, border=2)
    return shown.getvalue()


def qr_png(text: str, path: Path) -> None:
    """Write a QR code as a PNG file. Raises OSError, `TooLongForQrError`."""
    content = io.BytesIO()
    _qr(text).save(content, kind="png", scale=8, border=4)
    path.write_bytes(content.getvalue())


class TooLongForQrError(ValueError):
    """A text does not fit the largest QR code."""

    def __init__(self, characters: int) -> None:
        super().__init__(
            f"a QR code holds at most {QR_BYTES_MAX} characters, the payment URI has {characters}: "
            "leave out the memo or the label"
        )


def qr_svg(text: str) -> bytes:
    """Return a QR code as an SVG document, black on white with its margin. Raises
    `TooLongForQrError`."""
    content = io.BytesIO()
    _qr(text).save(
        content, kind="svg", scale=6, border=4, light="#fff", svgclass=None, lineclass=None
    )
    return content.getvalue()


def _qr(text: str) -> segno.QRCode:
    # Only here: few nodes are ever asked for one, and segno brings the XML parsers.
    import segno

    try:
        return segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError:
        raise TooLongForQrError(len(text)) from None

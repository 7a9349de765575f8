"""Time stamps of RFC 3161 on checkpoints: an authority signs that the note was there at a time.

The authority gets the SHA-256 of the note's bytes and nothing else. Its answer (DER, kept as it came) holds a token
with that hash, the time and a serial number, signed under a certificate for time stamps. The token isn't worth more
than the authority: `verify_timestamp` needs the certificates of those that are trusted, and says nothing without them,
since anybody can sign a token under a certificate of their own. Certificates must be valid at the stamped time, not
today. Whether one was revoked is not looked up. An answer that isn't strict DER is refused, whatever others make of it.

Requests go over ``http`` too, as many authorities offer nothing else, because what comes back is signed; nothing is to
be believed of it before it was verified.

Needs the extra ``timestamp`` (rfc3161-client). Sources: RFC 3161, RFC 5652 (CMS).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from auditkit.anchoring.failures import AnchorFailed
from auditkit.anchoring.transport import parse_endpoint, post_body
from auditkit.errors import StoreDamaged, UsageError, require

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

__all__ = ["Timestamp", "request_timestamp", "verify_timestamp"]

_EXTRA: Final = "timestamp"
_GRANTED: Final = 0


@dataclass(frozen=True)
class Timestamp:
    """What an authority signed.

    Attributes:
        time: When the note was there already, in UTC.
        authority: Subject of the certificate that signed, as RFC 4514 writes it, for instance ``CN=Example TSA``.
        serial: Number of the time stamp, by which the authority knows it.
    """

    time: datetime
    authority: str
    serial: int


def request_timestamp(url: str, signed_note: str, *, timeout_s: float = 10.0) -> bytes:
    """Have an authority stamp a checkpoint.

    Args:
        url: The authority's URL; not only of https.
        signed_note: The whole note, as the ledger has it.
        timeout_s: Longest time for everything together, in seconds.

    Returns:
        The answer in DER, to be kept beside the note. It is for this note and this request, but not verified.

    Raises:
        AnchorFailed: If no time stamp for this note came back.
        UsageError: If the URL isn't one of http or https, or the timeout isn't above 0.
        ExtraMissing: If ``rfc3161-client`` isn't installed.
    """
    client = require("rfc3161_client", _EXTRA)
    endpoint = parse_endpoint(url, "time stamp authority", plain=True)
    query = (
        client.TimestampRequestBuilder()
        .data(signed_note.encode())
        .hash_algorithm(client.HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )
    answer = post_body(
        endpoint, query.as_bytes(), "application/timestamp-query", "time stamp authority", timeout_s=timeout_s
    )
    if answer.status != 200:
        raise AnchorFailed(
            f"time stamp authority: expected status 200 of {endpoint}, found {answer.status}: "
            + (
                "redirects aren't followed: give the URL that it leads to"
                if 300 <= answer.status < 400
                else "see whether the URL is right, or try again later"
            ),
            transient=answer.status == 429 or answer.status >= 500,
        )
    try:
        response = _read_response(answer.body, signed_note)
    except StoreDamaged as fault:
        raise AnchorFailed(f"{fault}: see whether {endpoint} is an RFC 3161 service for this kind of hash") from None
    if response.tst_info.nonce != query.nonce:
        raise AnchorFailed(
            f"time stamp authority: expected an answer of {endpoint} to this request, found one to another: "
            "somebody is repeating old answers, so ask again from another network"
        )
    return answer.body


def verify_timestamp(data: bytes, signed_note: str, roots: bytes | None) -> Timestamp:
    """Verify the time stamp of a checkpoint.

    Args:
        data: The authority's answer, as `request_timestamp` gave it.
        signed_note: The whole note.
        roots: The certificates to trust, in PEM: the authority's root, or several. None can't be meant: without them a
            time stamp is only a claim.

    Returns:
        What the authority signed.

    Raises:
        StoreDamaged: If it isn't a time stamp of exactly this note, signed under one of these certificates.
        UsageError: If there are no certificates to trust.
        ExtraMissing: If ``rfc3161-client`` isn't installed.
    """
    client = require("rfc3161_client", _EXTRA)
    builder = client.VerifierBuilder()
    for each in _read_roots(roots):
        builder = builder.add_root_certificate(each)
    response = _read_response(data, signed_note)
    try:
        builder.build().verify_message(response, signed_note.encode())
        signer = _find_signer(response)
        info = response.tst_info
        return Timestamp(info.gen_time.astimezone(UTC), signer.subject.rfc4514_string(), info.serial_number)
    except (client.VerificationError, *_list_certificate_errors()) as error:
        # What the libraries say of hostile bytes is long.
        raise StoreDamaged(
            "time stamp: expected one that is signed under the given certificates, by a certificate for time stamps "
            f"that was valid then, found another ({_cut(str(error))}): see whether these are the authority's "
            "certificates"
        ) from None


def _list_certificate_errors() -> tuple[type[Exception], ...]:
    """What reading a certificate raises, which neither library wraps."""
    x509 = require("cryptography.x509", "seal")
    unsupported = require("cryptography.exceptions", "seal").UnsupportedAlgorithm
    return (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, unsupported)


def _read_roots(roots: bytes | None) -> list[Certificate]:
    x509 = require("cryptography.x509", "seal")
    if roots is None:
        raise UsageError(
            "time stamp: expected the certificates to trust, found none: without them anybody could have signed it, so "
            "give the authority's root certificate in PEM"
        )
    try:
        found: list[Certificate] = x509.load_pem_x509_certificates(roots)
    except ValueError:
        raise UsageError(
            f"time stamp: expected certificates to trust in PEM (BEGIN CERTIFICATE), found {len(roots)} bytes of "
            "something else"
        ) from None
    # The verifier takes none twice.
    return list(dict.fromkeys(found))


def _read_response(data: bytes, signed_note: str) -> TimeStampResponse:
    """Read an answer and say whether it is about this note; nothing in it is verified yet."""
    client = require("rfc3161_client", _EXTRA)
    try:
        response: TimeStampResponse = client.decode_timestamp_response(data)
        status = response.status
        stamped = response.tst_info.message_imprint.message if status == _GRANTED else b""
    except ValueError as error:
        raise StoreDamaged(
            f"time stamp: expected an answer of RFC 3161 in DER, found another form ({_cut(str(error))})"
        ) from None
    if status != _GRANTED:
        raise StoreDamaged(f"time stamp: expected one that was granted (status 0), found status {status}")
    if stamped != sha256(signed_note.encode()).digest():
        raise StoreDamaged("time stamp: expected one of this checkpoint, found one of something else")
    return response


def _find_signer(response: TimeStampResponse) -> Certificate:
    x509 = require("cryptography.x509", "seal")
    (signer,) = response.signed_data.signer_infos
    certificates = map(x509.load_der_x509_certificate, response.signed_data.certificates)
    found: Certificate = next(
        each for each in certificates if (each.issuer, each.serial_number) == (signer.issuer, signer.serial_number)
    )
    return found


def _cut(text: str) -> str:
    return ascii(text if len(text) <= 100 else text[:97] + "...")[1:-1]

"""A small log with its checkpoints, and certificates for servers and time stamps."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from auditkit import note, tree

ORIGIN = "auditkit/3f9a1cmq7hd2k5wz"
SEED = bytes([3]) * 32
VKEY = note.format_verifier_key(ORIGIN, note.derive_public_key(SEED))


@dataclass(frozen=True)
class Log:
    """A log with a history of its own: two of different names have the same leaves up to `fork`, and no more."""

    name: str = "honest"
    fork: int = 0

    def leaf(self, number: int) -> bytes:
        """Hash of one leaf."""
        return tree.hash_leaf(f"{self.name if number >= self.fork else 'honest'} {number}".encode())

    def root(self, size: int) -> bytes:
        """Root of the first leaves."""
        return tree.compute_root(size, tree.build_nodes(0, map(self.leaf, range(size))))

    def sign(self, size: int, seed: bytes = SEED, origin: str = ORIGIN) -> str:
        """Give the signed note over the first leaves."""
        return note.sign_note(note.format_checkpoint(note.Checkpoint(origin, size, self.root(size))), origin, seed)

    def prove(self, size: int) -> Prover:
        """Give what proves that the first leaves continue a smaller tree."""
        return Prover(self, size, [])


@dataclass(frozen=True)
class Prover:
    """Gives consistency proofs, and keeps for which sizes it was asked."""

    log: Log
    size: int
    asked: list[int]

    def __call__(self, old_size: int) -> list[bytes]:
        self.asked.append(old_size)
        leaves = [self.log.leaf(number) for number in range(self.size)]
        return tree.prove_consistency(old_size, self.size, tree.serve_nodes(leaves))


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in PEM."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The secret key."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_certificate(
    name: str,
    issuer: Certificate | None = None,
    *,
    authority: bool = False,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    until: datetime | None = None,
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
) -> Certificate:
    """Make a certificate, signed by its issuer or by itself, for a server on these hosts or another use."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) - timedelta(days=10)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(until or start + timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    signing = issuer.key if issuer else key
    if authority:
        builder = builder.add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
    )
    return Certificate(builder.sign(signing, hashes.SHA256()), key)

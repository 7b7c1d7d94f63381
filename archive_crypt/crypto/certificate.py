"""A certificate that vouches for itself, for hosts that have none. Nothing of the archive's own
keys is here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=3650)
_CLOCKS_DIFFER = timedelta(days=1)


def self_signed(domain: str) -> tuple[bytes, bytes]:
    """A new P-256 key and its certificate for `domain` (a name, or an IP address): (key, certificate),
    both PEM, the key not encrypted.

    It is marked as a CA for itself alone, since strict clients take nothing else for a trust anchor.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public, now = key.public_key(), datetime.now(UTC)
    # A common name has at most 64 characters; clients look at the alternative name anyway.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_general_name(domain)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return key_pem, certificate.public_bytes(pem)


def _general_name(domain: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(domain))
    except ValueError:
        return x509.DNSName(domain.encode("idna").decode())


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )

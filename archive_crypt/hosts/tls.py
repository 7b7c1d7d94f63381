"""The embedded host's certificate: made at the first start, kept in a folder, read at the next.

How keys are made is `crypto.certificate`'s.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import ssl

from archive_crypt.crypto.certificate import self_signed
from archive_crypt.errors import ConfigurationError


def certificate_path(folder: Path, domain: str) -> Path:
    """Where the certificate of `domain` is kept, as PEM; clients may be told to trust this file."""
    return folder / f"{domain}.crt"


def server_tls(folder: Path, domain: str) -> ssl.CertificateOptions:
    """What `EmbeddedServer` takes as `tls`: TLS 1.2 or newer with the domain's own certificate.

    A pair of one's own may be laid there instead (``DOMAIN.key``, ``DOMAIN.crt``).

    :raises ConfigurationError: what is in the folder cannot be used.
    """
    certificate, key = certificate_path(folder, domain), folder / f"{domain}.key"
    if not (certificate.exists() and key.exists()):
        _make(folder, domain, key, certificate)
    try:
        pair = ssl.PrivateCertificate.loadPEM(key.read_bytes() + b"\n" + certificate.read_bytes())
    except Exception as e:  # noqa: BLE001 - OpenSSL's error has no better base class
        raise ConfigurationError(f"{certificate}: unreadable with its .key ({type(e).__name__})") from None
    return ssl.CertificateOptions(
        privateKey=pair.privateKey.original,
        certificate=pair.original,
        raiseMinimumTo=ssl.TLSVersion.TLSv1_2,
    )


def _make(folder: Path, domain: str, key: Path, certificate: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_pem, certificate_pem = self_signed(domain)
    # The certificate last: it is what says that the pair is complete.
    _write(key, key_pem, 0o600)
    _write(certificate, certificate_pem, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)

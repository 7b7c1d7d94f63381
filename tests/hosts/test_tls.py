"""The certificate that is made at the first start, and the TLS that is spoken with it."""

from __future__ import annotations

import ssl
import stat

import pytest
from OpenSSL import SSL

from archive_crypt.crypto.certificate import self_signed
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.tls import certificate_path, server_tls
from tests.hosts.kit import DOMAIN


def handshake(options, context, name=DOMAIN):
    """Do a whole TLS handshake in memory; the version agreed on."""
    server = SSL.Connection(options.getContext(), None)
    server.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _ in range(4):
        for step, wants in (
            (client.do_handshake, ssl.SSLWantReadError),
            (server.do_handshake, SSL.WantReadError),
        ):
            try:
                step()
            except wants:
                pass
            finally:
                if outgoing.pending:
                    server.bio_write(outgoing.read())
            try:
                incoming.write(server.bio_read(65536))
            except SSL.WantReadError:
                pass
    return client.version()


@pytest.fixture
def strict(certificate):
    """A client that trusts our certificate and checks it as strictly as Python can."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_strict_clients_take_it(tls_folder, strict):
    """A client that is told to trust the certificate finds nothing wrong with it."""
    assert handshake(server_tls(tls_folder, DOMAIN), strict) == "TLSv1.3"


def test_name_is_checked(tls_folder, strict):
    """It is for its domain and for no other."""
    with pytest.raises(ssl.SSLCertVerificationError, match="montague"):
        handshake(server_tls(tls_folder, DOMAIN), strict, "montague.example")


def test_old_tls_is_refused(tls_folder, strict):
    """TLS 1.2 is the oldest that is spoken."""
    strict.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(server_tls(tls_folder, DOMAIN), strict) == "TLSv1.2"
    flags = (
        server_tls(tls_folder, DOMAIN).getContext().set_options(0)
    )  # changes nothing, and tells what is set
    for older in (SSL.OP_NO_SSLv3, SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1):
        assert flags & older


def test_it_is_kept(tmp_path):
    """It is made once, in a folder that is made too, and its key is its owner's alone."""
    folder = tmp_path / "new" / "tls"
    server_tls(folder, DOMAIN)
    files = {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}
    assert {name: mode for name, (_, mode) in files.items()} == {
        f"{DOMAIN}.key": 0o600,
        f"{DOMAIN}.crt": 0o644,
    }
    server_tls(folder, DOMAIN)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        n: c for n, (c, _) in files.items()
    }


def test_half_a_pair(tmp_path):
    """A start that was cut short between key and certificate is made good by the next."""
    server_tls(tmp_path, DOMAIN)
    certificate_path(tmp_path, DOMAIN).unlink()
    (tmp_path / f"{DOMAIN}.crt.new").write_text("half")
    server_tls(tmp_path, DOMAIN)


def test_unusable(tmp_path):
    """Files that are no pair are the operator's to mend, and are left alone."""
    server_tls(tmp_path, DOMAIN)
    certificate_path(tmp_path, DOMAIN).write_text("hello")
    with pytest.raises(ConfigurationError, match=f"{DOMAIN}.crt"):
        server_tls(tmp_path, DOMAIN)
    assert certificate_path(tmp_path, DOMAIN).read_text() == "hello"


@pytest.mark.parametrize("domain", ["127.0.0.1", "::1", "b\u00fccher.example", "x" * 60 + ".example"])
def test_any_domain(domain):
    """Addresses, names in any script and long names get certificates too."""
    key, certificate = self_signed(domain)
    assert key.startswith(b"-----BEGIN PRIVATE KEY")
    assert certificate.startswith(b"-----BEGIN CERTIFICATE")

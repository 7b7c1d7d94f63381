"""People with OpenPGP keys, by the gpg program, and what they write to each other (XEP-0373)."""

import base64
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive_crypt.core.items import ReadItem

#: Where CI runs nothing is skipped unseen: without gpg these tests fail there.
needs_gpg = pytest.mark.skipif(
    shutil.which("gpg") is None and "CI" not in os.environ, reason="gpg is not installed"
)

SIGNCRYPT = (
    "<signcrypt xmlns='urn:xmpp:openpgp:0'>{to}<time stamp='{time}'/><rpad>f0rm1l4n4</rpad>"
    "<payload>{payload}</payload></signcrypt>"
)
BODY = "<body xmlns='jabber:client'>{}</body>"


class People:
    """Who has keys here; `folder` is where they are written to."""

    def __init__(self, home, folder):
        self._home = home
        self.folder = folder

    def gpg(self, *arguments, given=b"", passphrase=""):
        done = subprocess.run(
            ["gpg", "--homedir", self._home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
            + ["--passphrase", passphrase, "--trust-model", "always", *arguments],
            input=given,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make(self, user_id, *, passphrase="", expires="never", more=()):
        """A new key, to sign and to encrypt for."""
        self.gpg(
            *more, "--quick-gen-key", user_id, "future-default", "default", expires, passphrase=passphrase
        )

    def secret(self, user_id, name=None, passphrase=""):
        """The file of a secret key."""
        path = self.folder / f"{name or user_id.partition(':')[2]}.secret"
        path.write_bytes(self.gpg("--armor", "--export-secret-keys", f"={user_id}", passphrase=passphrase))
        return path

    def public(self, user_id, name=None):
        """The file of a public key."""
        path = self.folder / f"{name or user_id.partition(':')[2]}.public"
        path.write_bytes(self.gpg("--export", f"={user_id}"))
        return path

    def fingerprint(self, user_id):
        """The name of a key among all keys of the world."""
        listing = self.gpg("--list-keys", "--with-colons", f"={user_id}").decode().split("\n")
        return next(line.split(":")[9] for line in listing if line.startswith("fpr:"))

    def seals(self, signer, plaintext, *recipients, passphrase="", more=()):
        """The octets of a message from `signer`, or if that is None, that nobody signed."""
        who = ["--sign", "--local-user", f"={signer}"] if signer else []
        for recipient in recipients:
            who += ["--recipient", f"={recipient}"]
        return self.gpg(*more, *who, "--encrypt", given=plaintext.encode(), passphrase=passphrase)


@contextmanager
def people(folder):
    """A place for keys, which is gone afterwards, its agent too."""
    with tempfile.TemporaryDirectory(prefix="pgp-") as home:
        Path(home, "gpg-agent.conf").write_text("s2k-count 65536\n")
        try:
            yield People(home, folder)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], capture_output=True)


def signcrypt(*to, said="This is a secret message.", time="2026-11-21T10:00:00Z", payload=None):
    """A content element for these JIDs."""
    return SIGNCRYPT.format(
        to="".join(f"<to jid='{jid}'/>" for jid in to), time=time, payload=payload or BODY.format(said)
    )


def archived(message, kind="from", at=None):
    """The item that is archived of an OpenPGP message, with the text for those who cannot read it."""
    text = base64.encodebytes(message).decode()
    return ReadItem(
        kind,
        at,
        None,
        None,
        ((None, "This message is encrypted using OpenPGP."),),
        None,
        rest=(
            '<encryption xmlns="urn:xmpp:eme:0" namespace="urn:xmpp:openpgp:0"></encryption>',
            f'<openpgp xmlns="urn:xmpp:openpgp:0">{text}</openpgp>',
        ),
    )

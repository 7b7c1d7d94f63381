"""OpenPGP by the gpg program, with a home of its own that is gone afterwards: the user's keyring is
neither read nor changed, and nothing is fetched.

gpg rather than a library: the one that there is in wheels (PySequoia) cannot check the signatures in
compressed messages, which is what gpg's users send, nor open with a key that has expired.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from archive_crypt.reader.failures import Problem

#: Octets of what is in a message at most: a few compressed ones could unfold to any size.
MOST_PLAINTEXT = 1024 * 1024

_OPTIONS = (
    *("--batch", "--no-tty", "--quiet", "--no-options", "--pinentry-mode", "loopback"),
    *("--trust-model", "always", "--disable-dirmngr", "--no-auto-key-retrieve"),
    *("--max-output", str(MOST_PLAINTEXT)),
)
#: Linux has it; mkdtemp is safe there.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_STATUS = "[GNUPG:] "
#: Seconds that one of its programs may take, for one message or all keys of a file.
_PATIENCE = 120
_AGENT = "See whether gpg works otherwise (gpg --list-secret-keys), and try again."
#: How its listings write a colon, and what else would confuse them.
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


class Signature(enum.Enum):
    """What a signature is worth."""

    GOOD = "made with a key that is known, and was good then"
    UNKNOWN = "made with a key that is not known, or is revoked"
    BAD = "not a signature of this"


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of a message. `plaintext`: None if it could not be opened; `recipients`: the ids of
    the keys that it was encrypted for; `ours`: one of them is here; `signers`: of each signature what
    it is worth, and the user ids of the key that made it."""

    plaintext: bytes | None
    recipients: tuple[str, ...]
    ours: bool
    signers: tuple[tuple[Signature, frozenset[str]], ...]


@dataclass(slots=True)
class _Certificate:
    """A key by what is needed of it; `ends`: seconds since 1970 when it and its subkeys expire, by
    fingerprint, where they do."""

    user_ids: set[str] = field(default_factory=set)
    ends: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Done:
    """What gpg wrote, and by lines what it told programs, who must not believe its other words: user
    ids and names of files stand there, which anybody can choose."""

    failed: bool
    output: bytes
    status: list[str]


class Keyring:
    """The keys in some files, in a context: secret ones open, public ones tell who signed. Any thread may
    `open`; leaving the context waits for it.

    :raises Problem: there is no gpg, no memory to keep its home in, or no key in a file; the text says which.
    """

    def __init__(self, files: Sequence[Path], passphrase: Callable[[], bytes]) -> None:
        self._files = files
        self._ask = passphrase
        self._passphrase = b""
        self._home = ""
        self._lock = threading.Lock()
        self._certificates: dict[str, _Certificate] = {}
        self._secret: set[str] = set()

    def __enter__(self) -> Keyring:
        if shutil.which("gpg") is None:
            raise Problem("OpenPGP messages need the program gpg (GnuPG): install it.")
        self._home = tempfile.mkdtemp(prefix="archive-reader-", dir=_in_memory())
        try:
            # Its agent derives the key from the passphrase anew for every message, by default for 0.1 s.
            (Path(self._home) / "gpg-agent.conf").write_text("s2k-count 65536\n")
            for path in self._files:
                self._import(path)
            self._learn()
            if self._is_protected():
                self._unlock()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:  # who was told to end may have left one behind that still opens
            self._clear()

    def open(self, message: bytes) -> Opened:
        """A message, decrypted and looked at."""
        with self._lock:
            done = self._gpg(["--decrypt"], message)
        words = [line.split(" ") for line in done.status]
        recipients = tuple(word[1] for word in words if word[0] == "ENC_TO")
        opened = any(word[0] == "DECRYPTION_OKAY" for word in words)
        return Opened(
            plaintext=done.output if opened else None,
            recipients=recipients,
            ours=not self._secret.isdisjoint(recipients),
            signers=tuple(self._signers(words)) if opened else (),
        )

    def _signers(self, words: list[list[str]]) -> Iterator[tuple[Signature, frozenset[str]]]:
        """gpg tells of each signature what it is, and of those that fit, right after, whose."""
        good = False
        for word in words:
            if word[0] in ("GOODSIG", "EXPSIG", "EXPKEYSIG"):  # good; when it was made is looked at below
                good = True
            elif word[0] in ("ERRSIG", "REVKEYSIG"):
                good = False
                yield Signature.UNKNOWN, frozenset()
            elif word[0] == "BADSIG":
                good = False
                yield Signature.BAD, frozenset()
            elif word[0] == "VALIDSIG" and good:
                certificate = self._certificates.get(word[10], _Certificate())
                made = int(word[3]) if word[3].isdecimal() else 0
                ends = [certificate.ends[key] for key in (word[1], word[10]) if key in certificate.ends]
                expired = any(made >= end for end in ends)
                yield Signature.BAD if expired else Signature.GOOD, frozenset(certificate.user_ids)

    def _import(self, path: Path) -> None:
        try:
            octets = path.read_bytes()
        except OSError as error:
            raise Problem(f"{path} cannot be read: {error.strerror}") from None
        status = self._gpg(["--import"], octets).status
        if not any(line.startswith("IMPORT_OK ") for line in status):
            raise Problem(f"{path} holds no OpenPGP key.")
        # Of the secret keys in it: how many there are, are new, and were here; gpg calls it OK for the public
        # half alone.
        counts = next((line.split()[10:13] for line in status if line.startswith("IMPORT_RES ")), [])
        numbers = [int(count) for count in counts if count.isdecimal()]
        if len(numbers) < 3 or sum(numbers[1:]) < numbers[0]:
            raise Problem(f"gpg does not take the secret key in {path}. {_AGENT}")

    def _learn(self) -> None:
        """Whose the keys are, and which of them are secret (gpg's doc/DETAILS)."""
        certificate, secret, end = _Certificate(), False, ""
        for option in ("--list-keys", "--list-secret-keys"):
            listing = self._gpg([option, "--with-colons", "--fixed-list-mode"])
            for line in _lines(listing.output):
                fields = line.split(":")
                if fields[0] in ("pub", "sec"):
                    certificate = _Certificate()
                if fields[0] in ("pub", "sec", "sub", "ssb"):
                    # '#': the secret half is not here.
                    secret = fields[0] in ("sec", "ssb") and fields[14] != "#"
                    end = fields[6]
                    if secret:
                        self._secret.add(fields[4])
                elif fields[0] == "fpr":
                    if end.isdecimal():
                        certificate.ends[fields[9]] = int(end)
                    self._certificates.setdefault(fields[9], certificate)
                elif fields[0] == "uid" and fields[1] != "r":
                    certificate.user_ids.add(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), fields[9]))

    def _is_protected(self) -> bool:
        done = _run("gpg-connect-agent", "--homedir", self._home, "KEYINFO --list", "/bye")
        lines = [line.split() for line in _lines(done.stdout)]
        if ["OK"] not in lines:
            raise Problem(f"gpg-agent cannot be asked. {_AGENT}")
        return any(word[:2] == ["S", "KEYINFO"] and word[7:8] == ["P"] for word in lines)

    def _unlock(self) -> None:
        self._passphrase = self._ask()
        # What it exports is protected as before, and dropped here; but it takes the passphrase.
        if self._gpg(["--export-secret-keys"]).failed:
            raise Problem("The passphrase of the OpenPGP key is wrong; or there are several, which differ.")

    def _gpg(self, arguments: list[str], given: bytes = b"") -> _Done:
        # A file for what it tells programs, as a pipe that is full would stop it: there can be any number
        # of recipients.
        with tempfile.TemporaryFile(dir=self._home) as status:
            reading, writing = os.pipe()
            with open(reading, "rb"):
                with open(writing, "wb") as passphrase:
                    # A pipe takes 64 KiB without a reader, and no passphrase is that long.
                    passphrase.write(self._passphrase + b"\n")
                options = ("--passphrase-fd", str(reading), "--status-fd", str(status.fileno()))
                fds = (reading, status.fileno())
                done = _run(
                    "gpg", "--homedir", self._home, *_OPTIONS, *options, *arguments, given=given, pass_fds=fds
                )
            status.seek(0)
            told = [line.removeprefix(_STATUS) for line in _lines(status.read()) if line.startswith(_STATUS)]
        return _Done(done.returncode != 0, done.stdout, told)

    def _clear(self) -> None:
        with contextlib.suppress(Problem):  # an agent whose home is gone ends by itself
            _run("gpgconf", "--homedir", self._home, "--kill", "gpg-agent")
        shutil.rmtree(self._home, ignore_errors=True)


def _run(
    name: str, *arguments: str, given: bytes = b"", pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[bytes]:
    """A program of gpg's.

    :raises Problem: it comes to no end.
    """
    try:
        return subprocess.run(  # noqa: S603 - no shell, our own words
            [shutil.which(name) or name, *arguments],
            input=given,
            capture_output=True,
            pass_fds=pass_fds,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"{name} does not answer in {_PATIENCE} seconds. {_AGENT}") from None


def _lines(octets: bytes) -> list[str]:
    """As gpg ends them: it leaves in a user id what else Python takes for the end of a line."""
    return octets.decode(errors="replace").split("\n")


def _in_memory() -> str:
    """A folder that is on no disk: what is deleted there can be read no more."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), _SHARED_MEMORY):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise Problem(
        "Copies of OpenPGP keys must not lie on a disk, and there is no folder in memory to write to: set "
        "XDG_RUNTIME_DIR to one that is yours alone (on a tmpfs, say)."
    )

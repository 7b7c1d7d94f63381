"""Who may log in, and what a stranger can learn."""

from __future__ import annotations

import pytest
from scramp import ScramClient, ScramException

from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.sasl import PLAIN, SCRAM, Accounts, Challenge, SaslFailure, begin, offer

DOMAIN = "capulet.example"


@pytest.fixture(scope="module")
def accounts():
    return Accounts(DOMAIN, {"Juliet": "pencil", "romeo": "r0meo"})


def scram(accounts, user, password):
    """Log in by SCRAM; the node, and the salt that the server told."""
    client = ScramClient([SCRAM], user, password)
    login = begin(SCRAM, accounts)
    first = login.step(client.get_client_first().encode())
    assert isinstance(first, Challenge)
    client.set_server_first(first.data.decode())
    success = login.step(client.get_client_final().encode())
    client.set_server_final(success.data.decode())  # checks the server's own proof
    return success.node, client.salt


def failure(call, *args):
    with pytest.raises(SaslFailure) as caught:
        call(*args)
    return caught.value.condition


@pytest.mark.parametrize(
    ("secure", "loopback", "tls", "offered"),
    [
        (True, False, True, (SCRAM, PLAIN)),
        (False, True, True, (SCRAM, PLAIN)),
        (False, True, False, (SCRAM, PLAIN)),
        (False, False, True, ()),
        (False, False, False, (SCRAM,)),
    ],
)
def test_offer(secure, loopback, tls, offered):
    """PLAIN is for TLS and for this machine; over a network TLS comes before any login."""
    assert offer(secure=secure, loopback=loopback, tls=tls) == offered


def test_scram(accounts):
    """The right password proves itself, and the server proves that it knows it."""
    assert scram(accounts, "juliet", "pencil")[0] == "juliet"


def test_scram_wrong_password(accounts):
    """A wrong password is not authorized."""
    assert failure(scram, accounts, "juliet", "pen") == "not-authorized"


def test_stranger_looks_like_a_user(accounts):
    """A stranger gets a salt like everybody, the same each time, and the failure of a wrong password."""

    def salt(user):
        first = begin(SCRAM, accounts).step(f"n,,n={user},r=abc".encode())
        _, salt, iterations = first.data.decode().split(",")
        return salt, iterations

    assert salt("mercutio") == salt("Mercutio") != salt("tybalt")
    assert len(salt("mercutio")[0]) == len(salt("juliet")[0])
    assert salt("mercutio")[1] == salt("juliet")[1]
    assert failure(scram, accounts, "mercutio", "x") == "not-authorized"


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        (b"n,a=romeo@capulet.example,n=juliet,r=abc", "invalid-authzid"),
        (b"p=tls-unique,,n=juliet,r=abc", "malformed-request"),
        (b"n,,n=juliet", "malformed-request"),
        (b"", "malformed-request"),
        (b"\xff", "malformed-request"),
        (b"n,,n=juliet,r=" + b"x" * 5000, "malformed-request"),
    ],
)
def test_scram_malformed(accounts, message, condition):
    """What is no client-first-message, or asks to act for another, is refused."""
    assert failure(begin(SCRAM, accounts).step, message) == condition


@pytest.mark.parametrize(
    ("message", "condition"),
    [
        ("\0juliet\0pen", "not-authorized"),
        ("\0mercutio\0pencil", "not-authorized"),
        ("\0juliet@capulet.example\0pencil", "not-authorized"),
        ("romeo@capulet.example\0juliet\0pencil", "invalid-authzid"),
        ("juliet\0pencil", "malformed-request"),
        ("\0juliet\0\u0000", "malformed-request"),
        ("\0juliet\0\ue000", "not-authorized"),  # SASLprep forbids it
    ],
)
def test_plain_refused(accounts, message, condition):
    """PLAIN refuses what does not prove who it is."""
    assert failure(begin(PLAIN, accounts).step, message.encode()) == condition


@pytest.mark.parametrize("message", ["\0juliet\0pencil", "juliet@capulet.example\0JULIET\0pencil"])
def test_plain(accounts, message):
    """PLAIN takes the right password, and the user's own address to act for."""
    assert begin(PLAIN, accounts).step(message.encode()).node == "juliet"


def test_no_password_is_kept(accounts):
    """The passwords themselves are nowhere in the accounts."""
    assert "pencil" not in repr(vars(accounts))


@pytest.mark.parametrize(
    "users", [{"": "x"}, {"a b": "x"}, {"a@b": "x"}, {"a": ""}, {"a/b": "x"}, {"a": "x", "A": "y"}]
)
def test_impossible_users(users):
    """A name or password that XMPP cannot have is the operator's to mend."""
    with pytest.raises(ConfigurationError):
        Accounts(DOMAIN, users)


def test_scram_needs_the_right_salt(accounts):
    """A client notices a server that does not know its password."""
    client = ScramClient([SCRAM], "juliet", "pencil")
    client.get_client_first()
    with pytest.raises(ScramException):
        client.set_server_first("r=other,s=QUFBQUFBQUFBQUFBQUFBQQ==,i=10000")

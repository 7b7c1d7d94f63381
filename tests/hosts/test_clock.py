"""What depends on time or on where a client comes from: no socket, and a clock that we turn."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.negotiation import is_loopback
from tests.hosts.kit import DOMAIN, STREAMS, USERS, bind, header, plain

LIMITS = Limits(login=30, idle=300, answer=60, linger=2)


class Wire(StringTransport):
    """A TCP transport in memory, as far as we use one."""

    aborted = half_closed = False

    def loseWriteConnection(self):
        self.half_closed = True

    def abortConnection(self):
        self.aborted = True
        self.loseConnection()


class Peer:
    """A client of a server whose time is ours."""

    def __init__(self, host="127.0.0.1", tls=None):
        self.clock = Clock()
        self.server = EmbeddedServer(self.clock, DOMAIN, USERS, limits=LIMITS, tls=tls)
        self.stream = self.server.buildProtocol(None)
        self.wire = Wire(peerAddress=IPv4Address("TCP", host, 5))
        self.stream.makeConnection(self.wire)

    def say(self, xml):
        self.stream.dataReceived(xml.encode())

    def login(self):
        self.say(header())
        self.say(plain("juliet", USERS["juliet"]))
        self.say(header())
        self.say(bind("balcony"))
        self.wire.clear()

    def features(self):
        self.say(header())
        root = ElementTree.fromstring(self.wire.value() + b"</stream:stream>")
        return [element.tag.partition("}")[2] for element in root.find(STREAMS + "features").iter()][1:]

    def said(self, what):
        return what.encode() in self.wire.value()


def test_time_for_login():
    """A stream that is not bound in time is closed, whatever it has reached."""
    peer = Peer()
    peer.say(header())
    peer.say(plain("juliet", USERS["juliet"]))
    peer.clock.advance(29)
    assert not peer.wire.half_closed
    peer.clock.advance(1)
    assert peer.said("connection-timeout")
    assert peer.wire.half_closed


def test_login_ends_that_time():
    """A bound stream is not closed for it."""
    peer = Peer()
    peer.login()
    peer.clock.advance(31)
    assert peer.wire.value() == b""


def test_silent_client_is_asked_then_closed():
    """After silence comes a ping, and after silence to that the end."""
    peer = Peer()
    peer.login()
    peer.clock.advance(300)
    assert peer.said("urn:xmpp:ping")
    peer.clock.advance(60)
    assert peer.said("connection-timeout")


def test_client_that_answers_stays():
    """Any answer, be it a space, keeps the stream, and each silence is measured anew."""
    peer = Peer()
    peer.login()
    for _ in range(3):
        peer.wire.clear()
        peer.clock.advance(300)
        assert peer.said("urn:xmpp:ping")
        peer.say(" ")
        peer.clock.advance(60)
    assert not peer.said("connection-timeout")


def test_talking_client_is_not_asked():
    """Who talks is not asked whether it is there."""
    peer = Peer()
    peer.login()
    for _ in range(9):
        peer.say(" ")
        peer.clock.advance(100)
    assert peer.wire.value() == b""


def test_unread_output_is_bounded():
    """A client that reads nothing is told why it is closed, behind what it has not read, and what
    came after the bound is dropped."""
    peer = Peer()
    peer.login()
    peer.say("<presence/>")
    peer.stream.pauseProducing()  # as the transport does when its buffer is full
    body = "x" * 200_000
    for _ in range(30):  # 6 MB
        peer.say(f"<message to='juliet@capulet.example'><body>{body}</body></message>")
    assert not peer.wire.half_closed
    peer.clock.advance(0)
    assert peer.said("resource-constraint")
    assert peer.wire.half_closed
    assert len(peer.wire.value()) < LIMITS.unsent + 10_000


def test_linger():
    """A client that does not close its half of the connection has it closed for it."""
    peer = Peer()
    peer.say("GET /")
    assert peer.wire.half_closed
    assert not peer.wire.aborted
    peer.say("more and more")
    peer.clock.advance(2)
    assert peer.wire.aborted


def test_nothing_is_left_behind():
    """When a connection is gone no timer of it is."""
    peer = Peer()
    peer.login()
    peer.stream.connectionLost(None)
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("host", "tls", "features"),
    [
        ("192.0.2.1", object(), ["starttls", "required"]),
        ("192.0.2.1", None, ["mechanisms", "mechanism"]),
        ("127.0.0.1", None, ["mechanisms", "mechanism", "mechanism"]),
    ],
)
def test_features_over_a_network(host, tls, features):
    """From elsewhere TLS is required where it can be had, and PLAIN never offered without."""
    assert Peer(host, tls).features() == features


@pytest.mark.parametrize(
    ("tls", "wanted"), [(object(), "PLAIN"), (object(), "SCRAM-SHA-256"), (None, "PLAIN")]
)
def test_login_over_a_network_without_tls(tls, wanted):
    """What is not offered is not taken either, the right password or not."""
    peer = Peer("192.0.2.1", tls)
    peer.say(header())
    peer.say(plain("juliet", USERS["juliet"]).replace("PLAIN", wanted))
    assert peer.said("<encryption-required/>")
    assert not peer.said("<success")


@pytest.mark.parametrize(
    ("peer", "answer"),
    [
        (IPv4Address("TCP", "127.0.0.1", 5), True),
        (IPv4Address("TCP", "127.9.9.9", 5), True),
        (IPv4Address("TCP", "192.0.2.1", 5), False),
        (IPv6Address("TCP", "::1", 5), True),
        (IPv6Address("TCP", "::ffff:127.0.0.1", 5), True),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 5), False),
        (IPv6Address("TCP", "fe80::1%eth0", 5), False),
        (UNIXAddress("/tmp/x"), True),
        (None, False),
    ],
)
def test_loopback(peer, answer):
    """Only this machine's own addresses are loopback."""
    assert is_loopback(peer) is answer

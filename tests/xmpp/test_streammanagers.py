"""The handler added to a StreamManager: wokkel's, and that of its fork Tx-XMPP. The streams are real,
and have no other handler."""

import pytest
import tx_xmpp.subprotocols
import wokkel.subprotocols
from lxml import etree
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.protocols.jabber.xmlstream import STREAM_AUTHD_EVENT, Authenticator, XmlStreamFactory

from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import House

ORCHARD = "romeo@montague.lit/orchard"
LIST = f"<list xmlns='{F.namespace}'/>"
HEADER = (
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='a' id='1'>"
)


class Managed:
    """A handler in a StreamManager of `library`, on a stream whose bytes we say and read."""

    def __init__(self, library):
        self.house = House()
        self.house.archiver.stream_opened(JID(ORCHARD))
        factory = XmlStreamFactory(Authenticator())
        self.manager = library.StreamManager(factory, self.house.clock)
        self.handler = ArchiveHandler(self.house.archiver, JID(ORCHARD))
        self.transport = StringTransport()
        self.stream = factory.buildProtocol(None)
        self.stream.makeConnection(self.transport)
        self.stream.dataReceived(HEADER)

    def add_handler(self):
        self.handler.setHandlerParent(self.manager)

    def log_in(self):
        self.stream.dispatch(self.stream, STREAM_AUTHD_EVENT)
        self.house.settle()

    def ask(self, child):
        """All that the client gets when it sends an iq with this child."""
        self.transport.clear()
        iq = f"<iq type='get' id='1' from='{ORCHARD}'>{child}</iq>"
        self.stream.dataReceived(iq.encode())
        self.house.settle()
        return list(etree.fromstring(b"<root>" + self.transport.value() + b"</root>"))


@pytest.fixture(params=[wokkel.subprotocols, tx_xmpp.subprotocols], ids=["wokkel", "Tx-XMPP"])
def library(request):
    return request.param


@pytest.fixture
def managed(library):
    """A handler that was there before the stream's login, as hosts have it."""
    managed = Managed(library)
    managed.add_handler()
    managed.log_in()
    return managed


@pytest.mark.parametrize("namespace", DIALECTS)
def test_list(managed, namespace):
    """A request gets its answer, once."""
    (answer,) = managed.ask(f"<list xmlns='{namespace}'/>")
    assert (answer.get("type"), answer.get("id"), answer.get("to")) == ("result", "1", ORCHARD)
    assert answer[0].tag == f"{{{namespace}}}list"


@pytest.mark.parametrize("namespace", DIALECTS)
def test_unknown_element(managed, namespace):
    """A request that the archive does not know gets its error, once."""
    (answer,) = managed.ask(f"<bogus xmlns='{namespace}'/>")
    assert (answer.get("type"), answer.get("id")) == ("error", "1")
    assert answer.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}*") is not None


def test_foreign_element(managed):
    """What is not the archive's is left to other handlers."""
    assert managed.ask("<ping xmlns='urn:xmpp:ping'/>") == []


def test_notice(managed):
    """What the user should be told is sent."""
    managed.transport.clear()
    managed.handler.onNotice("No usable key.")
    message = etree.fromstring(managed.transport.value())
    assert (message.get("to"), message.findtext("body")) == (ORCHARD, "No usable key.")


def test_added_late(library):
    """A handler that is added when its stream is up already works as well."""
    managed = Managed(library)
    managed.log_in()
    assert managed.ask(LIST) == []
    managed.add_handler()
    assert [answer.get("type") for answer in managed.ask(LIST)] == ["result"]


def test_end_of_the_stream(managed):
    """When its stream ends, the handler lets go of it."""
    managed.stream.connectionLost(Failure(ConnectionDone()))
    assert managed.handler.xmlstream is None

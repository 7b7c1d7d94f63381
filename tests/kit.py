"""What tests of the archive live in: a house in memory, with a clock that obeys and streams that are lists."""

from lxml import etree
from twisted.internet.task import Clock
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish import domish, utility

from archive_crypt.archiver import Archiver
from archive_crypt.core import items, xmlenc
from archive_crypt.crypto import opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.model import SECOND, Direction, Settings
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.quota import quota_of
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from archive_crypt.xmpp.handler import ArchiveHandler

#: When the clock of a house begins: 2026-11-21T10:00:00Z, in seconds.
MORNING = 1_795_255_200

#: Private keys are slow to make: all tests share these.
LAPTOP, PHONE = opening.generate(2048), opening.generate(2048)


def element(xml, default="jabber:client"):
    """The domish element that `xml` is, as a stream of `default` namespace would give it."""
    found = []
    stream = domish.elementStream()
    stream.DocumentStartEvent = lambda root: None
    stream.ElementEvent = found.append
    stream.DocumentEndEvent = lambda: None
    stream.parse(f"<stream xmlns='{default}'>{xml}</stream>".encode())
    return found[0]


def key_info(private_key, name):
    """KeyInfo of a private key's public half."""
    numbers = private_key.public(name).rsa.public_numbers()
    return xmlenc.write_key_value(
        name, numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"), numbers.e.to_bytes(3, "big")
    )


class Stream(utility.EventDispatcher):
    """A client stream as a host has it: `received` is what its client got, oldest first."""

    def __init__(self, house, jid, known):
        super().__init__()
        self.house, self.jid, self.received = house, JID(jid), []
        house.archiver.stream_opened(self.jid, known=known)
        self.handler = ArchiveHandler(house.archiver, self.jid)
        self.handler.parent = self
        self.handler.makeConnection(self)
        self.handler.connectionInitialized()

    def send(self, stanza):
        """What the server sends to this client."""
        self.received.append(etree.fromstring(stanza.toXml(), etree.XMLParser(huge_tree=True)))

    def ask(self, xml):
        """The client sends an iq; its answer, or None if there is none yet."""
        iq = element(xml)
        iq["from"] = self.jid.full()
        before = len(self.received)
        self.dispatch(iq)
        self.house.settle()
        answers = [stanza for stanza in self.received[before:] if stanza.tag.endswith("iq")]
        return answers[0] if answers else None

    def says(self, xml):
        """The client sends a message."""
        return self._message(Direction.TO, xml, "from")

    def hears(self, xml):
        """A message is delivered to the client."""
        return self._message(Direction.FROM, xml, "to")

    def closes(self):
        """The stream ends."""
        self.house.archiver.stream_closed(self.jid)
        self.house.settle()

    def _message(self, direction, xml, own):
        message = element(xml)
        if own == "from" or not message.hasAttribute("to"):
            message[own] = self.jid.full()
        done = self.house.archiver.message(self.jid, direction, message, self.house.now())
        self.house.settle()
        return done


class House:
    """An archive with all its real parts but the database and the sockets."""

    def __init__(self, storage=None, *, streams_outlive=False, **settings):
        self.clock = Clock()
        self.storage = storage or MemoryStorage(self.now, quota_of(Settings(**settings)))
        self.keyring = KeyRing()
        self.writer = Writer(self.storage, self.clock)
        works = Works(self.storage, self.writer, self.keyring, self.clock, Settings(**settings))
        self.archiver = Archiver(works, self.now, streams_outlive=streams_outlive)

    def now(self):
        return MORNING * SECOND + int(self.clock.seconds() * SECOND)

    def settle(self):
        """Let everything happen that is due now."""
        for _ in range(4):
            self.clock.advance(0)

    def passes(self, seconds):
        """Time goes by."""
        self.clock.advance(seconds)
        self.settle()

    def stream(self, jid, *, known=False):
        stream = Stream(self, jid, known)
        self.settle()
        return stream


def opened(page, private_key, name=None):
    """The items of a page (``<chat/>``), opened with a private key; None for those it cannot open.

    Done by hand with the project's own reading half; other tools' view of the same pages is
    tested in tests/e2e/test_xmlsec.py.
    """
    return [None if found is None else items.read(found) for found in unsealed(page, private_key)]


def unsealed(page, private_key):
    """As `opened`, but the elements that were sealed."""
    keys = {}
    for child in page.findall(f"{{{xmlenc.XMLENC}}}EncryptedKey"):
        read = xmlenc.read_key(child)
        try:
            keys[read.key_name] = opening.unwrap(private_key, read.algorithm, read.cipher)
        except opening.CannotOpen:
            continue
    return [_unsealed(child, keys) for child in page.findall(f"{{{xmlenc.XMLENC}}}EncryptedData")]


def _unsealed(child, keys):
    data = xmlenc.read_data(child)
    key = keys.get(data.key_names[0])
    return key and etree.fromstring(opening.open_sealed(data.algorithm, key, data.cipher))

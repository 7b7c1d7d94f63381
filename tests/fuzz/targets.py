"""What is fuzzed: each target takes any octets, and raises if something fails that must not.

Refusing is no failure: an ArchiveError of the codec, an error that a client gets.
"""

from contextlib import suppress
from pathlib import Path

from lxml import etree
from twisted.logger import LogLevel, globalLogPublisher
from twisted.words.protocols.jabber.jid import InvalidFormat

from archive_crypt.core import items, jids, openpgp, published, rsm, stanzas, times, xmlenc
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.crypto import publickeys
from archive_crypt.errors import ArchiveError
from archive_crypt.hosts import wire
from tests.hosts.test_component import HERE, JULIET, Scene
from tests.test_mutations import ORCHARD, answers, lived_in

#: A folder of inputs for each target: requests, talk, what servers say; and what fuzzing found.
CORPUS = Path(__file__).with_name("corpus")

OWNER = "juliet@capulet.com"
ACCEPT = "{jabber:component:accept}"
#: Inputs that one house, or one server, gets before the next one is built.
LIFE = 200


class Wrong(Exception):
    """What must not happen did."""


def parsed(data):
    """The root of an XML document as a stream's parser would let it through; None if it would not."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    with suppress(etree.XMLSyntaxError, ValueError):
        root = etree.fromstring(data, parser)
        # lxml lets a prefix pass that is not declared, if a warning follows; a stream's parser does not.
        if not root.getroottree().docinfo.doctype and not parser.error_log.filter_from_errors():
            return root
    return None


def text(data):
    """Everything that is read from the text of an attribute or an element."""
    said = data.decode(errors="replace")
    with suppress(ArchiveError):
        moment = times.parse(said)
        if times.parse(times.render(moment)) != moment:
            raise Wrong("a time is not what it was")
    with suppress(ArchiveError):
        times.render(times.parse(said, clamp=True))
    jid = jids.read(said)
    if jid is not None and jids.read(jid.full()) != jid:
        raise Wrong("a JID is not what it was")
    with suppress(InvalidFormat):
        wire.address(said)
    for length in (1, 2, 3):
        with suppress(ValueError):
            stanzas.read_position(length)(said)
    with suppress(ValueError):
        stanzas.read_stamp(said)
    with suppress(ArchiveError):
        xmlenc.decode_base64(said)


def certificate(data):
    """An OpenPGP certificate; and as a key in DER."""
    openpgp.rsa_keys(data)
    with suppress(ArchiveError):
        publickeys.from_der(data, "key")


def codec(data):
    """Requests, answers and items: each part that is one, by itself."""
    root = parsed(data)
    for part in () if root is None else root.iter():
        uri = etree.QName(part).namespace
        for kind in ("get", "set") if uri in DIALECTS else ():
            with suppress(ArchiveError):
                _read(stanzas.parse(kind, part))
        for read in _READERS.get(etree.QName(part).localname, ()):
            with suppress(ArchiveError):
                read(part)


#: What else is read, of elements of this name.
_READERS = {
    "list": [rsm.read_answer],
    "EncryptedData": [xmlenc.read_data],
    "EncryptedKey": [xmlenc.read_key],
    "KeyInfo": [xmlenc.read_key_value],
    "to": [items.read],
    "from": [items.read],
    "note": [items.read],
}


def _read(request):
    """What is read only when the answer is made."""
    page = getattr(request, "page", None)
    if page is not None:
        rsm.window(page, stanzas.read_position(2), 100)
        rsm.write_request(page)
    for key in getattr(request, "keys", ()):
        if isinstance(key, xmlenc.RSAKeyValue):
            publickeys.from_numbers(key.modulus, key.exponent, key.name)


def keys(data):
    """Published keys: the same items at every node that is read."""
    root = parsed(data)
    if root is not None:
        names = [*published.watched(openpgp=True), f"{published.OPENPGP_NODE}:{root.get('v4', '')}"]
        published.read(OWNER, dict.fromkeys(names, list(root)), openpgp=True)


class _Living:
    """What lives on from one input to the next."""

    def __init__(self, build):
        self._build = build
        self._inputs = LIFE

    def get(self):
        if self._inputs >= LIFE:
            self._inputs, self._it = 0, self._build()
        self._inputs += 1
        return self._it

    def end(self):
        self._inputs = LIFE


def handler(data):
    """Stanzas of a client, one after the other: each request has one answer, and nothing is a bug."""
    root = parsed(data)
    stream = _streams.get()
    for stanza in () if root is None else root.iterchildren():
        xml = etree.tostring(stanza, encoding="unicode", with_tail=False)
        if stanza.tag == "{jabber:client}message":
            say = stream.hears if stanza.get("from") else stream.says
            _logged(say, xml).addErrback(lambda failure: failure.trap(ArchiveError) and None)
        elif stanza.tag == "{jabber:client}iq" and _is_request(stanza):
            (answer,) = _logged(answers, stream, xml)
            if answer.find(".//{*}internal-server-error") is not None or answer.get("to") != ORCHARD:
                raise Wrong("a request failed")
    stream.house.passes(1)


def _is_request(iq):
    uris = [etree.QName(child).namespace for child in iq]
    return iq.get("type") in ("get", "set") and any(uri in DIALECTS for uri in uris)


def component(data):
    """Stanzas of a server: none fails, none ends the stream. One with OUTER and INNER in it is sent for each
    request that the server got last, with its ids there."""
    root = parsed(data)
    scene, asked = _scenes.get(), []
    for stanza in () if root is None else root.iterchildren(f"{ACCEPT}iq", f"{ACCEPT}message"):
        xml = etree.tostring(stanza, encoding="unicode", with_tail=False)
        ids = asked if "OUTER" in xml else [("", "")]
        scene.server.transport.clear()
        for outer, inner in ids:
            _logged(scene.server.raw, xml.replace("OUTER", outer).replace("INNER", inner))
            scene.house.settle()
        asked = _asked(scene.server.got()) or asked
        if scene.component.counts["failed"] or scene.server.transport.disconnecting:
            raise Wrong("a stanza failed" if scene.component.counts["failed"] else "the stream ended")
    scene.house.passes(1)


def _asked(sent):
    """The ids of the requests, and of what is in them."""
    inner = [(stanza, stanza.find("{*}privileged_iq/*")) for stanza in sent]
    return [(stanza.get("id"), iq.get("id")) for stanza, iq in inner if iq is not None]


def _scene():
    scene = Scene(domains=(HERE, "montague.lit"))
    scene.server.snapshot(JULIET, missed="0")
    scene.house.settle()
    return scene


def _logged(do, *args):
    """Do it; whatever is logged as an error is one."""
    wrong = []

    def observe(event):
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            wrong.append(failure.value if failure else Wrong(event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    try:
        done = do(*args)
    finally:
        globalLogPublisher.removeObserver(observe)
    if wrong:
        raise wrong[0]
    return done


_streams, _scenes = _Living(lived_in), _Living(_scene)

TARGETS = {one.__name__: one for one in (text, certificate, codec, keys, handler, component)}

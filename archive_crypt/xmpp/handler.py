"""The subprotocol handler of one client stream: archive iqs <-> the archiver.

The only place that makes stanza errors of our errors. It asks of its host what wokkel and its
fork Tx-XMPP both give a handler: a parent that sends, a stream to observe.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.protocols.jabber.xmlstream import toResponse
from twisted.words.xish import domish
from wokkel.subprotocols import XMPPHandler

from archive_crypt.archiver import Archiver
from archive_crypt.core import jids, stanzas
from archive_crypt.core.dialect import DIALECTS, Dialect, features
from archive_crypt.core.stanzas import AutoRequest, ListRequest, RetrieveRequest
from archive_crypt.deferreds import kind
from archive_crypt.errors import ArchiveError, BadRequest, NotYourArchive
from archive_crypt.model import Settings

#: An iq of a client, with the archive's element in it.
_REQUEST = "/iq[@type='get' or @type='set']/*[@xmlns='{}']"

#: Requests that an error repeats, as the examples of XEP-0136 do: they are small.
_REPEATED = ("list", "retrieve")


def offered(settings: Settings) -> tuple[str, ...]:
    """The features to announce in disco#info, of the server and of each user's bare JID."""
    return features(("auto", "encrypt", "manage") if settings.encryption else ("auto", "manage"))


class ArchiveHandler(XMPPHandler):  # type: ignore[misc]
    """Answers the archive's iqs on the stream of the full JID `jid`, whose archive it is.

    Add it to the stream's StreamManager: without a parent answers would be lost in silence.
    """

    log = Logger()

    def __init__(self, archiver: Archiver, jid: JID) -> None:
        super().__init__()
        self._archiver = archiver
        self._jid = jid
        self._doers: dict[type, Callable[[Any], Deferred[Any]]] = {
            AutoRequest: self._auto,
            ListRequest: self._list,
            RetrieveRequest: self._retrieve,
        }

    def connectionInitialized(self) -> None:
        """The stream is ready: watch it for requests, and for what its user should be told."""
        for namespace in DIALECTS:
            self.xmlstream.addObserver(_REQUEST.format(namespace), self.onRequest)
        self._archiver.listen(self._jid, self.onNotice)

    def onRequest(self, iq: domish.Element) -> None:
        """Answer an iq, sooner or later, with exactly one result or error."""
        if not vars(iq).get("handled"):  # iq.handled would also find a child of that name
            iq.handled = True  # type: ignore[attr-defined]
            self._answer(iq).addErrback(self._failed)

    def onNotice(self, text: str) -> None:
        """Tell the user of this stream something, as his server."""
        message = domish.Element((None, "message"))
        message["from"] = self._jid.host
        message["to"] = self._jid.full()
        message.addElement("body", content=text)
        self.send(message)

    @inlineCallbacks
    def _answer(self, iq: domish.Element) -> Generator[Deferred[Any], Any, None]:
        element = next(child for child in iq.elements() if child.uri in DIALECTS)
        repeated = None
        try:
            tree = _parsed(element)
            repeated = element if element.name in _REPEATED else None
            self._check_address(iq.getAttribute("to"))
            request = stanzas.parse(iq["type"], tree)
            payload = yield self._doers[type(request)](request)
        except Exception as error:  # noqa: BLE001 - the client gets one answer, whatever happens
            self.send(self._error(iq, DIALECTS[element.uri], error, repeated))
            return
        response = toResponse(iq, "result")
        if payload is not None:
            response.addRawXml(payload)
        self.send(response)

    @inlineCallbacks
    def _auto(self, request: AutoRequest) -> Generator[Deferred[Any], Any, None]:
        yield self._archiver.set_auto(self._jid, request)

    @inlineCallbacks
    def _list(self, request: ListRequest) -> Generator[Deferred[Any], Any, str]:
        page = yield self._archiver.list(self._jid.userhost(), request)
        return stanzas.list_answer(request.dialect, page)

    @inlineCallbacks
    def _retrieve(self, request: RetrieveRequest) -> Generator[Deferred[Any], Any, str]:
        found = yield self._archiver.retrieve(self._jid.userhost(), request)
        backwards = request.page.before is not None
        return stanzas.chat_answer(
            request.dialect, found.collection, found.page, found.keys, backwards=backwards
        )

    def _check_address(self, to: str | None) -> None:
        """An archive is its owner's: nobody else's can be asked for."""
        asked = self._jid if to is None else jids.read(to)
        if asked is None:
            raise BadRequest("The iq is addressed to no JID.")
        if asked.full() not in (self._jid.full(), self._jid.userhost(), self._jid.host):
            raise NotYourArchive

    def _error(
        self, iq: domish.Element, dialect: Dialect, error: Exception, repeated: domish.Element | None
    ) -> domish.Element:
        if not isinstance(error, ArchiveError):
            self.log.error("a request failed: {kind}", kind=type(error).__name__)
            error = ArchiveError()
        condition, type_ = dialect.condition(error)
        response: domish.Element = toResponse(iq, "error")
        if repeated is not None:
            response.addChild(repeated)
        response.addChild(StanzaError(condition, type_, text=str(error)).getElement())
        return response

    def _failed(self, failure: Failure) -> None:
        self.log.error("an answer could not be sent: {kind}", kind=kind(failure))


def _parsed(element: domish.Element) -> etree._Element:
    """The request as a tree of lxml's, which bounds its depth and knows no DTD."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(element.toXml(), parser)
    except (etree.XMLSyntaxError, RecursionError, ValueError):
        raise BadRequest("The request is nested too deeply, or is not XML.") from None

"""The subprotocol handler of one client stream: archive iqs <-> the archiver.

The only place that makes stanza errors of our errors. It asks of its host what wokkel and its
fork Tx-XMPP both give a handler: a parent that sends, a stream to observe.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
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
from archive_crypt.core import answers, jids, prefstanzas, stanzas
from archive_crypt.core.dialect import DIALECTS, Dialect, features
from archive_crypt.core.preferences import Changes
from archive_crypt.core.prefstanzas import PreferencesGet, PreferencesRemove, PreferencesSet
from archive_crypt.core.stanzas import (
    AutoRequest,
    DeleteRequest,
    KeysRequest,
    ListRequest,
    ModifiedRequest,
    RemoveRequest,
    RetrieveRequest,
)
from archive_crypt.core.uploads import SaveRequest
from archive_crypt.deferreds import kind
from archive_crypt.errors import ArchiveError, BadRequest, NotYourArchive
from archive_crypt.model import Automatic, Preferences, Settings

#: An iq of a client, with the archive's element in it.
_REQUEST = "/iq[@type='get' or @type='set']/*[@xmlns='{}']"

#: Requests that an error repeats, as the examples of XEP-0136 do, and characters of one that is repeated:
#: they are small, and one that is not may come back too long for a server to take.
_REPEATED = ("list", "retrieve", "remove")
_MOST_REPEATED = 16 * 1024


def offered(settings: Settings, recording: bool = True) -> tuple[str, ...]:
    """The features to announce in disco#info, of the server and of each user's bare JID. `recording`:
    whether the host brings messages."""
    automatic = recording and settings.automatic is not Automatic.OFF
    names = {
        "auto": automatic,
        "encrypt": automatic and settings.encryption,
        "manage": True,
        "manual": settings.manual,
        "pref": True,
    }
    return features(tuple(name for name, there in names.items() if there))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The payload of a result, if it has one; and what is to be done when it was sent."""

    payload: str | None = None
    then: Callable[[], object] | None = None


_Doing = Generator[Deferred[Any], Any, _Answer]


class ArchiveHandler(XMPPHandler):  # type: ignore[misc]
    """Answers the archive's iqs on the stream of the full JID `jid`, whose archive it is.

    Add it to the stream's StreamManager: without a parent answers would be lost in silence.
    """

    log = Logger()

    def __init__(self, archiver: Archiver, jid: JID) -> None:
        super().__init__()
        self._archiver = archiver
        self._management = archiver.management
        self._jid = jid
        self._owner = jid.userhost()
        self._doers: dict[type, Callable[[Any], Deferred[_Answer]]] = {
            AutoRequest: self._auto,
            SaveRequest: self._save,
            ListRequest: self._list,
            RetrieveRequest: self._retrieve,
            RemoveRequest: self._remove,
            KeysRequest: self._keys,
            DeleteRequest: self._delete,
            ModifiedRequest: self._modified,
            PreferencesGet: self._get_preferences,
            PreferencesSet: self._set_preferences,
            PreferencesRemove: self._remove_preferences,
        }

    def connectionInitialized(self) -> None:
        """The stream is ready: watch it for requests, and for what its user should be told."""
        for namespace in DIALECTS:
            self.xmlstream.addObserver(_REQUEST.format(namespace), self.onRequest)
        self._archiver.listen(self._jid, self)

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

    def onPush(self, dialect: Dialect, changes: Changes, wishes: Preferences) -> None:
        """Tell the client of this stream, which asked for it, what preferences changed. Its answer,
        if it gives one, is of no interest (A-PREF-13)."""
        for payload in prefstanzas.pushes(dialect, changes, wishes, self._archiver.wishes.defaults):
            iq = domish.Element((None, "iq"))
            iq["type"], iq["id"], iq["to"] = "set", f"push-{secrets.token_hex(8)}", self._jid.full()
            iq.addRawXml(payload)
            self.send(iq)

    @inlineCallbacks
    def _answer(self, iq: domish.Element) -> Generator[Deferred[Any], Any, None]:
        element = next(child for child in iq.elements() if child.uri in DIALECTS)
        repeated = None
        try:
            tree = _parsed(element)
            repeated = element if element.name in _REPEATED else None
            self._check_address(iq.getAttribute("to"))
            request = stanzas.parse(iq["type"], tree)
            answer = yield self._management.admit(self._owner, self._doers[type(request)], request)
        except Exception as error:  # noqa: BLE001 - the client gets one answer, whatever happens
            self.send(self._error(iq, DIALECTS[element.uri], error, repeated))
            return
        response = toResponse(iq, "result")
        if answer.payload is not None:
            response.addRawXml(answer.payload)
        self.send(response)
        if answer.then is not None:
            answer.then()

    @inlineCallbacks
    def _auto(self, request: AutoRequest) -> _Doing:
        yield self._archiver.switching.set(self._jid, request)
        return _Answer()

    @inlineCallbacks
    def _save(self, request: SaveRequest) -> _Doing:
        collection = yield self._management.save(self._owner, request)
        return _Answer(answers.save_answer(request.dialect, collection))

    @inlineCallbacks
    def _list(self, request: ListRequest) -> _Doing:
        page = yield self._management.list(self._owner, request)
        return _Answer(answers.list_answer(request.dialect, page, backwards=request.page.before is not None))

    @inlineCallbacks
    def _retrieve(self, request: RetrieveRequest) -> _Doing:
        found = yield self._management.retrieve(self._owner, request)
        backwards = request.page.before is not None
        return _Answer(
            answers.chat_answer(
                request.dialect,
                found.collection,
                found.page,
                found.keys,
                found.links,
                found.form,
                backwards=backwards,
            )
        )

    @inlineCallbacks
    def _remove(self, request: RemoveRequest) -> _Doing:
        yield self._management.remove(self._owner, request)
        return _Answer()

    @inlineCallbacks
    def _keys(self, request: KeysRequest) -> _Doing:
        page = yield self._management.keys(self._owner, request)
        backwards = request.page.before is not None
        return _Answer(answers.keys_answer(request.dialect, page, backwards=backwards))

    @inlineCallbacks
    def _delete(self, request: DeleteRequest) -> _Doing:
        yield self._management.delete(self._owner, request)
        return _Answer()

    @inlineCallbacks
    def _modified(self, request: ModifiedRequest) -> _Doing:
        page = yield self._management.modified(self._owner, request)
        return _Answer(answers.modified_answer(request.dialect, page))

    @inlineCallbacks
    def _get_preferences(self, request: PreferencesGet) -> _Doing:
        wishes, auto = yield self._archiver.wishes.get(self._jid, request)
        return _Answer(prefstanzas.answer(request.dialect, wishes, auto, self._archiver.wishes.defaults))

    @inlineCallbacks
    def _set_preferences(self, request: PreferencesSet) -> _Doing:
        auto = None if request.auto is None else stanzas.read_auto(request.dialect, request.auto)
        self._archiver.wishes.check(self._jid, request, recording=auto is not None and auto.save)
        if auto is not None:
            yield self._archiver.switching.set(self._jid, auto)
        changes = yield self._archiver.wishes.set(self._jid, request)
        return self._changed(changes)

    @inlineCallbacks
    def _remove_preferences(self, request: PreferencesRemove) -> _Doing:
        changes = yield self._archiver.wishes.remove(self._jid, request)
        return self._changed(changes)

    def _changed(self, changes: Changes) -> _Answer:
        return _Answer(then=partial(self._archiver.wishes.publish, self._owner, changes))

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
        if repeated is not None and len(repeated.toXml()) <= _MOST_REPEATED:
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

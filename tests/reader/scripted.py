"""Archives that answer as no honest one does, or refuse now and then: on a real server, for a real client."""

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.xmlstream import toResponse
from wokkel.subprotocols import XMPPHandler

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.xmpp.handler import ArchiveHandler

SILENCE = object()


class Scripted(XMPPHandler):
    """Answers each archive iq with what `script(element)` gives of the request in it: the payload's
    XML, None for an empty result, a StanzaError, or SILENCE. `heard` are the requests, each with the `kind` of its iq."""

    def __init__(self, script, heard):
        super().__init__()
        self.script, self.heard = script, heard

    def connectionInitialized(self):
        for namespace in DIALECTS:
            self.xmlstream.addObserver(f"/iq[@type]/*[@xmlns='{namespace}']", self.on_request)

    def on_request(self, iq):
        iq.handled = True
        element = next(iq.elements())
        element.kind = iq["type"]
        self.heard.append(element)
        said = self.script(element)
        if said is SILENCE:
            return
        if isinstance(said, StanzaError):
            response = said.toResponse(iq)
        else:
            response = toResponse(iq, "result")
            if said:
                response.addRawXml(said)
        self.send(response)


def speaks(*dialects, script=lambda element: None):
    """A script for an archive that knows these dialects only."""
    known = [dialect.namespace for dialect in dialects]

    def answer(element):
        return script(element) if element.uri in known else StanzaError("service-unavailable")

    return answer


class Trouble:
    """Makes the handlers of real archives; what `refuses` has of the requests of a stream, by its resource and the
    request's type, name and `save` (else ""), is answered by an error; if `silent`, not at all. `refused` are
    those that were."""

    def __init__(self, *, silent=False):
        self.silent, self.refuses, self.refused = silent, set(), []

    def __call__(self, archiver, jid):
        return _Troubled(archiver, jid, self)

    def sees(self, *request):
        """Whether this request is to be refused."""
        if request in self.refuses:
            self.refused.append(request)
        return request in self.refuses


class _Troubled(ArchiveHandler):
    def __init__(self, archiver, jid, trouble):
        super().__init__(archiver, jid)
        self._trouble = trouble

    def onRequest(self, iq):
        element = next(iq.elements())
        if self._trouble.sees(self._jid.resource, iq["type"], element.name, element.getAttribute("save", "")):
            iq.handled = True
            if not self._trouble.silent:
                self.send(StanzaError("resource-constraint").toResponse(iq))
        else:
            super().onRequest(iq)

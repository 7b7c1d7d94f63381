"""Those who negotiate (XEP-0155): real clients, of which it is told what they say and hear."""

import asyncio
from functools import partial

from lxml import etree
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from archive_crypt.model import Otr, SaveMode
from archive_crypt.reader import ssn
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.ssn import Form
from tests.reader.patience import PATIENCE, awaited

MAY, NOT = Logging.MAY, Logging.MUSTNOT
THREAD = "ffd7076498744578d10edabfe7f4a866"
OFFER = Form("form", THREAD, accept=True, logging=(NOT, MAY))
ACCEPTED = Form("submit", THREAD, accept=True, logging=(NOT,))
ENDED = Form("submit", THREAD, terminate=True)
EVENTS = ("otr_agreed", "otr_failed", "otr_ended")


class Side:
    """One who negotiates: `plugin`; `told`, the events there were; `sent`, all that went out; `heard`, what
    came of negotiations."""

    def __init__(self, client):
        self.client, self.told, self.sent, self.heard = client, [], [], []
        self.jid = str(client.boundjid)
        self.archive = client.plugin["xep_0136"]
        self.plugin = client.plugin.get("xep_0155", None)
        self._news = asyncio.Event()
        client.add_filter("out", self._on_sent)
        client.register_handler(
            Callback("heard", MatchXPath(f"{{jabber:client}}message/{ssn.ELEMENT}"), self._on_form)
        )
        for name in EVENTS:
            client.add_event_handler(name, partial(self._on_event, name))

    def _on_sent(self, stanza):
        self.sent.append(str(stanza))
        self._news.set()
        return stanza

    def _on_form(self, message):
        form = ssn.read(etree.fromstring(str(message)))
        self.heard.append(form or message["error"]["condition"])
        self._news.set()

    def _on_event(self, name, negotiated):
        self.told.append((name, negotiated.outcome))
        self._news.set()

    async def until(self, condition):
        """Something was said or heard that makes this true."""

        async def wait():
            while not condition():
                self._news.clear()
                await self._news.wait()

        await awaited(asyncio.wait_for(wait(), PATIENCE))

    async def hears(self, name, outcome):
        """Until it was told of an event."""
        await self.until(lambda: (name, outcome) in self.told)
        self.told.remove((name, outcome))

    async def gets(self, *forms):
        """Until these came, and no others."""
        await self.until(lambda: len(self.heard) >= len(forms))
        assert self.heard == list(forms)
        self.heard.clear()

    async def prefers(self, mode, save=SaveMode.BODY):
        save = SaveMode.FALSE if mode is Otr.REQUIRE else save
        await awaited(self.archive.set_default(save, mode))

    async def sees(self, condition):
        """Asks for the preferences until this is true of them."""

        async def ask():
            while not condition(await self.archive.get_preferences()):
                pass

        await awaited(asyncio.wait_for(ask(), PATIENCE))

    async def offers(self, to, thread=THREAD):
        return (await awaited(self.plugin.offer(to.jid, thread))).outcome

    async def logs(self, with_, thread=THREAD):
        return await awaited(self.plugin.logging(with_.jid, thread))

    async def may_send(self, to, thread=THREAD):
        return await awaited(self.plugin.may_send(to.jid, thread))

    async def says(self, to, text, thread=THREAD):
        message = self.client.make_message(to.jid, text, mtype="chat")
        message["thread"] = thread
        heard = awaited(to.client.wait_until("message", PATIENCE))
        message.send()
        await heard

    async def kept(self):
        """How many messages of each conversation its archive holds."""
        found = []
        async for collection in self.archive.collections():
            found.append(sum([len(page) async for page in self.archive.pages(collection)]))
        return found

    def sends(self, text):
        """What `ssn` wrote, or anything else, whatever the plugin thinks of it."""
        self.client.send_raw(text)

    async def answered(self):
        """By now the server has seen all that was sent before."""
        await awaited(self.archive.get_preferences())

"""A source for syncs without a network: a real archive in memory, asked with the reader's own requests. It
can be disturbed at any of them."""

import asyncio
from functools import partial
from random import Random

from archive_crypt.core.dialect import F
from archive_crypt.core.times import EARLIEST
from archive_crypt.model import PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import refusal
from archive_crypt.reader.protocol import Query
from archive_crypt.reader.xep_0136 import requests as plain
from archive_crypt.reader.xep_0136.paging import Paging
from archive_crypt.reader.xep_0241.stanza import key_name

#: Collections, and items, on a page: few, so that there are many.
PAGE = 2


class Desk:
    """`disturb` is called with the number of each request before it is answered; it may change the
    archive, or raise. Answers take a time that `chance` tells. `asked` are the requests since the last
    `reset`."""

    def __init__(self, stream, dialect=F):
        self.stream, self.dialect = stream, dialect
        self.reset()

    def reset(self, disturb=lambda number: None, seed=0):
        self.disturb, self.asked, self.chance = disturb, [], Random(seed)

    async def modified(self, start=EARLIEST, after=None):
        build = partial(plain.modified, self.dialect, start)
        async for page in self._paged(build, protocol.read_modified, after):
            yield page

    async def collections(self):
        build = partial(plain.listing, self.dialect, Query())
        async for page in self._paged(build, protocol.read_list):
            for collection in page.collections:
                yield collection

    async def count(self):
        request = plain.listing(self.dialect, Query(), PageRequest(max=1))
        info = protocol.read_list(await self._ask(request)).info
        return info.count if info else 0

    async def pages(self, collection, wanted):
        names = [key_name(name) for name in wanted.key_names]
        build = partial(plain.retrieve, self.dialect, collection, children=names)
        async for page in self._paged(build, protocol.read_chat, complete=False):
            yield page

    async def _paged(self, build, read, after=None, complete=True):
        paging = Paging(after)
        while True:
            page = read(await self._ask(build(page=PageRequest(max=PAGE, after=paging.after))))
            yield page
            if not paging.next(page.info, len(page), complete=complete):
                return

    async def _ask(self, request):
        await self._moments()
        self.asked.append(str(request))
        self.disturb(len(self.asked))
        answer = self.stream.ask(f"<iq type='get' id='d'>{request}</iq>")
        if answer.get("type") == "error":
            raise refusal(answer.find("{*}error/*").tag.partition("}")[2], "", "")
        await self._moments()
        return answer[0]

    async def _moments(self):
        for _ in range(self.chance.choice((1, 1, 40))):
            await asyncio.sleep(0)

"""Pages of a real archive in memory, asked for with the reader's own requests, for its pure half."""

from dataclasses import replace

from hypothesis import settings

from archive_crypt.core.dialect import F
from archive_crypt.model import PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Query
from archive_crypt.reader.xep_0136 import requests as plain
from archive_crypt.reader.xep_0241 import requests as sealed
from archive_crypt.reader.xep_0241.stanza import key_name
from tests.kit import LAPTOP, House

#: The same examples at each run, and no clock: the machine may be busy.
law = settings(derandomize=True, deadline=None, max_examples=300)

ROMEO, JULIET = "romeo@montague.lit", "juliet@capulet.lit"


def recording(*private_keys, house=None, dialect=F, resource="orchard"):
    """A stream of romeo's on which everything is archived: sealed for these keys, or in clear."""
    stream = (house or House()).stream(f"{ROMEO}/{resource}")
    turn_on(stream, *private_keys, dialect=dialect)
    return stream


def turning_on(dialect, public_keys):
    """What turns archiving on: sealed for these keys, or in clear."""
    return str(sealed.auto(dialect, public_keys) if public_keys else plain.auto(dialect, save=True))


def turn_on(stream, *private_keys, dialect=F):
    """Archiving begins, or goes on so: sealed for these keys, or in clear."""
    request = turning_on(dialect, [key.public() for key in private_keys])
    assert stream.ask(f"<iq type='set' id='a'>{request}</iq>").get("type") == "result"


def talks(stream, *texts, to=f"{JULIET}/chamber", thread=None):
    """Romeo says these in turn."""
    label = f"<thread>{thread}</thread>" if thread else ""
    for text in texts:
        stream.says(f"<message to='{to}' type='chat'><body>{text}</body>{label}</message>")


def collections(stream, dialect=F):
    """The collections there are."""
    request = plain.listing(dialect, Query(), PageRequest())
    return protocol.read_list(stream.ask(f"<iq type='get' id='l'>{request}</iq>")[0]).collections


def page(stream, collection, *key_names, dialect=F, **wanted):
    """One page of a collection, the first unless a PageRequest's fields are given."""
    names = [key_name(name) for name in key_names]
    request = plain.retrieve(dialect, collection, PageRequest(**wanted), names)
    return protocol.read_chat(stream.ask(f"<iq type='get' id='r'>{request}</iq>")[0])


def sealed_page(*texts, keys=(LAPTOP,), **where):
    """The page of a conversation that was sealed for these keys."""
    stream = recording(*keys)
    talks(stream, *texts, **where)
    (collection,) = collections(stream)
    return page(stream, collection)


def with_parts(shown, parts):
    """The page with other items on it."""
    return replace(shown, parts=tuple(parts))


def read(shown, *private_keys, book=None):
    """The entries of a page that is all of its collection."""
    book = book or Book(private_keys or [LAPTOP])
    book.begin(shown.collection)
    return book.read(shown)


def said(entries):
    """What the entries say, None for those that could not be read."""
    return [entry.item and entry.item.bodies[0][1] for entry in entries]


def found(entries):
    """The words of what is to be said of each entry."""
    return [[finding.word for finding in entry.findings] for entry in entries]

"""What the tests of storages are written in: changes with everything that does not matter filled in."""

from archive_crypt.core.xmlenc import XMLDSIG, XMLENC
from archive_crypt.model import SECOND, EncryptedKey, PlainItem, SealedItem, UploadedKey, Window
from archive_crypt.store.interfaces import Append, ListFilter, Open, Remove, Save, Upload

ROMEO, JULIET = "romeo@montague.lit", "juliet@capulet.lit"
CHAMBER = "juliet@capulet.lit/chamber"
START = 1_000 * SECOND
ALL = Window(limit=1000)
GCM, OAEP = "urn:gcm", "urn:oaep"
MUCH = 1_000_000


def opened(collection=1, with_=CHAMBER, start=START, owner=ROMEO, **more):
    return Open(owner, collection, with_, start, **more)


def wrapped(name, recipient="laptop", cipher=b"wrapped"):
    return EncryptedKey(name, recipient, OAEP, cipher)


def sealed_open(collection=1, name="k1", recipients=("laptop",), **more):
    keys = tuple(wrapped(name, recipient) for recipient in recipients)
    return opened(collection, key_name=name, algorithm=GCM, keys=keys, **more)


def plain(number, text="hi", collection=1, owner=ROMEO, **more):
    item = PlainItem(number, START + number * SECOND, f"<to><body>{text}</body></to>")
    return Append(owner, collection, item, **more)


def sealed(number, name="k1", collection=1, cipher=b"cipher", owner=ROMEO):
    return Append(owner, collection, SealedItem(number, name, GCM, cipher))


def save(collection=1, with_=CHAMBER, start=START, owner=ROMEO, most_octets=MUCH, **more):
    return Save(owner, collection, with_, start, most_octets, **more)


def said(text="hi", secs=0):
    """A message in clear, as it is uploaded."""
    return Upload(f'<to secs="{secs}"><body>{text}</body></to>', secs)


def data(text="secret", *names):
    """An EncryptedData under the keys called `names`, as it is uploaded."""
    content = f'<EncryptedData xmlns="{XMLENC}">{key_info(names)}{text}</EncryptedData>'
    return Upload(content, encrypted=True, key_names=tuple(names))


def key_info(names):
    """KeyInfo with these names; nothing without any."""
    inner = "".join(f"<KeyName>{name}</KeyName>" for name in names)
    return f'<KeyInfo xmlns="{XMLDSIG}">{inner}</KeyInfo>' if names else ""


def element_of_key(name, recipients, text="wrapped"):
    """An EncryptedKey element."""
    carried_name = f"<CarriedKeyName>{name}</CarriedKeyName>"
    return f'<EncryptedKey xmlns="{XMLENC}">{key_info(recipients)}{text}{carried_name}</EncryptedKey>'


def carried(name="k1", *recipients, text="wrapped"):
    """An EncryptedKey as it is uploaded; for the laptop unless said otherwise."""
    names = recipients or ("laptop",)
    return UploadedKey(name, names, element_of_key(name, names, text))


def remove(owner=ROMEO, limit=1000, ids=None, **which):
    return Remove(owner, ListFilter(**which), limit, ids)


async def only(storage, change):
    """What became of a single change."""
    (outcome,) = await storage.apply([change])
    return outcome


async def listed(storage, owner=ROMEO, window=ALL, **which):
    return await storage.collections(owner, ListFilter(**which), window)


async def paged(storage, window=ALL, with_=CHAMBER, start=START, recipients=(), owner=ROMEO):
    return await storage.page(owner, with_, start, window, recipients)


async def modified(storage, after=0, owner=ROMEO, window=ALL):
    return await storage.modified(owner, after, window)


async def versions(storage, owner=ROMEO):
    """What a replica learns, in order: (with, start, version, removed) of each identity."""
    found = await modified(storage, owner=owner)
    return [(one.with_, one.start, one.version, one.removed) for one in found.items]


async def everything(storage, owner=ROMEO):
    """All that can be read of an owner, to be compared; keys in no order."""
    pages = []
    shown = (await listed(storage, owner)).items
    for one in shown:
        page = await paged(storage, with_=one.with_, start=one.start, owner=owner)
        keys = {name: set(found) for name, found in page.keys.items()}
        pages.append((list(page.page.items), page.page.count, keys, dict(page.links), page.form))
    return list(shown), pages, list((await modified(storage, owner=owner)).items), await storage.state(owner)


def numbers(found):
    return [item.number for item in found.page.items]


def texts(found):
    return [item.content for item in found.page.items]

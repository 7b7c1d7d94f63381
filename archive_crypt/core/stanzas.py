"""Requests of XEP-0136 and XEP-0241 -> values: what an element means is decided here, what is done
about it is the archiver's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lxml import etree

from archive_crypt.core import attributes, prefstanzas, rsm, times, uploads, xmlenc
from archive_crypt.core.answers import write_position
from archive_crypt.core.dialect import DIALECTS, Dialect
from archive_crypt.core.prefstanzas import PreferencesGet, PreferencesRemove, PreferencesSet
from archive_crypt.core.uploads import SaveRequest
from archive_crypt.errors import BadRequest, NotImplementedHere, UnusableKey
from archive_crypt.model import Micros, PageRequest, Position

#: Public keys in one <auto/> that are looked at. Operators may allow fewer.
MOST_KEYS = 64


@dataclass(frozen=True, slots=True)
class AutoRequest:
    """``<auto/>``: `lasting` is scope='global'; `keys` are the public keys supplied."""

    dialect: Dialect
    save: bool
    encrypt: bool
    lasting: bool
    keys: tuple[xmlenc.RSAKeyValue, ...]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """``<list/>``: `start` is inclusive, `end` exclusive; None where nothing was asked."""

    dialect: Dialect
    with_: str | None
    exact: bool
    start: Micros | None
    end: Micros | None
    page: PageRequest


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """``<retrieve/>``: `key_names` are the public keys whose EncryptedKeys are wanted; none: all."""

    dialect: Dialect
    with_: str
    start: Micros
    key_names: tuple[str, ...]
    page: PageRequest


@dataclass(frozen=True, slots=True)
class RemoveRequest:
    """``<remove/>``: which collections, as in a list; `identity`: the one of exactly `with_` and
    `start`; `open`: only those being recorded."""

    dialect: Dialect
    with_: str | None
    exact: bool
    start: Micros | None
    end: Micros | None
    identity: bool
    open: bool


@dataclass(frozen=True, slots=True)
class KeysRequest:
    """``<keys/>``: which EncryptedKeys are for the public keys called `key_names`."""

    dialect: Dialect
    key_names: tuple[str, ...]
    page: PageRequest


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """``<delete/>``: of one collection, the EncryptedKeys for the public keys called `key_names`."""

    dialect: Dialect
    with_: str
    start: Micros
    key_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModifiedRequest:
    """``<modified/>``: what changed after `after`."""

    dialect: Dialect
    after: Micros
    page: PageRequest


Request = (
    AutoRequest
    | ListRequest
    | RetrieveRequest
    | RemoveRequest
    | KeysRequest
    | DeleteRequest
    | ModifiedRequest
    | SaveRequest
    | PreferencesGet
    | PreferencesSet
    | PreferencesRemove
)


def parse(kind: str, element: etree._Element) -> Request:
    """The request that `element` makes as the child of an iq of type `kind` ('get' or 'set').

    :raises BadRequest: malformed, or of the wrong type.
    :raises NotAcceptable: a part of it can never be kept.
    :raises NotImplementedHere: no request of the archive is called so.
    :raises UnusableKey: a supplied key cannot be read.
    """
    qname = etree.QName(element)
    dialect = DIALECTS[qname.namespace or ""]
    readers = _READERS.get(qname.localname)
    if qname.localname in _NO_REQUESTS:
        raise BadRequest(f"<{qname.localname}/> is no request.")
    if readers is None:
        raise NotImplementedHere(f"The archive knows no request <{qname.localname}/>.")
    if kind not in readers:
        raise BadRequest(f"<{qname.localname}/> goes into an iq of type {next(iter(readers))!r}.")
    return readers[kind](dialect, element)


def read_position(length: int) -> Callable[[str], Position]:
    """A reader of the ids that `write_position` gives, of `length` numbers; ValueError for others."""

    def read(text: str) -> Position:
        parts = text.split(":")
        if len(parts) != length or len(text) > 40 * length or not text.isascii():
            raise ValueError("not an id of ours")
        position = tuple(int(part) for part in parts)
        if write_position(position) != text or max(map(abs, position)) >= 2**63:
            raise ValueError("not an id of ours")
        return position

    return read


def read_stamp(text: str) -> Position:
    """The position that a UTC DateTime names among modifications; ValueError for others."""
    try:
        return (times.parse(text, clamp=True),)
    except BadRequest:
        raise ValueError("not a DateTime") from None


def read_auto(dialect: Dialect, element: etree._Element) -> AutoRequest:
    """``<auto/>``, by itself or in ``<pref/>``.

    :raises BadRequest: it is malformed.
    :raises UnusableKey: a supplied key cannot be read.
    """
    save = attributes.boolean(element, "save")
    encrypt = attributes.boolean(element, "encrypt") or False
    scope = element.get("scope", "stream") if dialect.scoped else "stream"
    if save is None:
        raise BadRequest("<auto/> needs the attribute save.")
    if scope not in ("global", "stream"):
        raise BadRequest("The scope of <auto/> is 'global' or 'stream'.")
    encrypt = encrypt and save
    keys = tuple(_read_keys(element)) if encrypt else ()
    return AutoRequest(dialect, save, encrypt, scope == "global", keys)


def _read_keys(element: etree._Element) -> Iterator[xmlenc.RSAKeyValue]:
    infos = element.findall(f"{{{xmlenc.XMLDSIG}}}KeyInfo")
    if len(infos) > MOST_KEYS:
        raise UnusableKey(f"At most {MOST_KEYS} public keys can be supplied.")
    for info in infos:
        try:
            value = xmlenc.read_key_value(info)
        except BadRequest as error:
            raise UnusableKey(f"A supplied public key cannot be read. {error}") from None
        if value is None:
            raise UnusableKey("A supplied public key is not an RSAKeyValue.")
        yield value


def _exact(dialect: Dialect, element: etree._Element) -> bool:
    return dialect.exactmatch and bool(attributes.boolean(element, "exactmatch"))


def _read_list(dialect: Dialect, element: etree._Element) -> ListRequest:
    return ListRequest(
        dialect=dialect,
        with_=attributes.jid(element, "with"),
        exact=_exact(dialect, element),
        start=attributes.time(element, "start", clamp=True),
        end=attributes.time(element, "end", clamp=True),
        page=rsm.read_request(element),
    )


def _read_retrieve(dialect: Dialect, element: etree._Element) -> RetrieveRequest:
    with_, start = attributes.identity(element)
    return RetrieveRequest(
        dialect=dialect,
        with_=with_,
        start=start,
        key_names=xmlenc.read_key_names(element),
        page=rsm.read_request(element),
    )


def _read_remove(dialect: Dialect, element: etree._Element) -> RemoveRequest:
    with_, end = attributes.jid(element, "with"), attributes.time(element, "end", clamp=True)
    start = attributes.time(element, "start", clamp=True)
    if start is not None and end is None and with_ is None:
        raise BadRequest("<remove/> with start needs an end too, or with for a single collection.")
    return RemoveRequest(
        dialect=dialect,
        with_=with_,
        exact=_exact(dialect, element),
        start=start,
        end=end,
        identity=start is not None and end is None,
        open=bool(attributes.boolean(element, "open")),
    )


def _read_keys_request(dialect: Dialect, element: etree._Element) -> KeysRequest:
    return KeysRequest(dialect, _key_names(element), rsm.read_request(element))


def _read_delete(dialect: Dialect, element: etree._Element) -> DeleteRequest:
    return DeleteRequest(dialect, *attributes.identity(element), _key_names(element))


def _key_names(element: etree._Element) -> tuple[str, ...]:
    names = xmlenc.read_key_names(element)
    if not names:
        raise BadRequest(f"<{etree.QName(element).localname}/> needs the <KeyName/> of a public key.")
    return names


def _read_modified(dialect: Dialect, element: etree._Element) -> ModifiedRequest:
    after = attributes.time(element, "start", clamp=True)
    return ModifiedRequest(dialect, times.EARLIEST if after is None else after, rsm.read_request(element))


def _read_preferences(dialect: Dialect, _: etree._Element) -> PreferencesGet:
    return PreferencesGet(dialect)


#: Elements of the archive's schema that go elsewhere: into files, <save/>, stream features.
_NO_REQUESTS = ("archive", "chat", "feature")

_Reader = Callable[[Dialect, etree._Element], Request]

#: name -> iq type -> reader. <auto/> is taken as get too: a client in the field sends it so; and
#: <delete/> because XEP-0241 prints it so.
_READERS: dict[str, dict[str, _Reader]] = {
    "auto": {"set": read_auto, "get": read_auto},
    "list": {"get": _read_list},
    "retrieve": {"get": _read_retrieve},
    "remove": {"set": _read_remove},
    "keys": {"get": _read_keys_request},
    "delete": {"set": _read_delete, "get": _read_delete},
    "modified": {"get": _read_modified},
    "save": {"set": uploads.read},
    "pref": {"get": _read_preferences, "set": prefstanzas.read_set},
    "itemremove": {"set": prefstanzas.read_remove},
    "sessionremove": {"set": prefstanzas.read_remove},
}

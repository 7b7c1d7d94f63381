"""What XEP-0241 asks of an archive, from values to stanzas, in a dialect. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from archive_crypt.core import xmlenc
from archive_crypt.core.dialect import Dialect
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import PageRequest
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.xep_0136 import requests
from archive_crypt.reader.xep_0136.stanza import Auto, in_dialect
from archive_crypt.reader.xep_0241 import stanza


def auto(dialect: Dialect, keys: Iterable[PublicKey] = (), *, lasting: bool = False) -> Auto:
    """``<auto/>`` that turns archiving on, encrypted for these keys and those published (3)."""
    element = requests.auto(dialect, save=True, lasting=lasting)
    element["encrypt"] = "true"
    for key in keys:
        element.append(stanza.KeyInfo(xml=ElementTree.fromstring(_key_info(key))))  # noqa: S314 - it is our own
    return element


def keys(dialect: Dialect, names: Iterable[str], page: PageRequest) -> stanza.Keys:
    """``<keys/>``: the EncryptedKeys for the public keys of these names (6)."""
    element = in_dialect(stanza.Keys, dialect)()
    element.xml.extend(map(stanza.key_name, names))
    requests.set_page(element, page)
    return element


def delete(dialect: Dialect, collection: Listed, names: Iterable[str]) -> stanza.Delete:
    """``<delete/>`` of a collection's EncryptedKeys for the public keys of these names (6)."""
    element = in_dialect(stanza.Delete, dialect)()
    requests.set_identity(element, collection)
    element.xml.extend(map(stanza.key_name, names))
    return element


def _key_info(key: PublicKey) -> str:
    numbers = key.rsa.public_numbers()
    return xmlenc.write_key_value(key.name, _octets(numbers.n), _octets(numbers.e))


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")

"""The elements that XEP-0241 adds to XEP-0136, as slixmpp's stanza classes in all three namespaces; and
those of XML Signature that they hold.
"""

from __future__ import annotations

from typing import ClassVar
from xml.etree import ElementTree

from slixmpp.plugins.xep_0059.stanza import Set
from slixmpp.xmlstream import ElementBase, register_stanza_plugin

from archive_crypt.core import xmlenc
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.reader.xep_0136 import stanza
from archive_crypt.reader.xep_0136.stanza import in_dialect

_KEY_NAME = f"{{{xmlenc.XMLDSIG}}}KeyName"


class Keys(ElementBase):
    """``<keys/>``: asks for EncryptedKeys of all collections, and holds them in the answer."""

    name = "keys"
    namespace = F.namespace
    plugin_attrib = "archive_keys"
    interfaces: ClassVar[set[str]] = set()


class Delete(ElementBase):
    """``<delete/>``: EncryptedKeys of a collection go."""

    name = "delete"
    namespace = F.namespace
    plugin_attrib = "archive_delete"
    interfaces: ClassVar[set[str]] = {"with", "start"}


class KeyInfo(ElementBase):
    """``<KeyInfo/>``: a public key, in ``<auto/>``."""

    name = "KeyInfo"
    namespace = xmlenc.XMLDSIG
    plugin_attrib = "key_info"
    plugin_multi_attrib = "key_infos"
    interfaces: ClassVar[set[str]] = {"KeyName"}
    sub_interfaces: ClassVar[set[str]] = {"KeyName"}


ROOTS: tuple[type[ElementBase], ...] = (Keys, Delete)

for _root in ROOTS:
    stanza.add(_root)
for _dialect in DIALECTS.values():
    register_stanza_plugin(in_dialect(Keys, _dialect), in_dialect(stanza.Chat, _dialect), iterable=True)
    register_stanza_plugin(in_dialect(Keys, _dialect), Set)
    register_stanza_plugin(in_dialect(stanza.Auto, _dialect), KeyInfo, iterable=True)


def key_name(name: str) -> ElementTree.Element:
    """``<KeyName/>``: the name of a public key."""
    element = ElementTree.Element(_KEY_NAME)
    element.text = name
    return element

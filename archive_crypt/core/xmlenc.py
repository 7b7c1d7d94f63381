"""W3C XML Encryption and Signature elements <-> values: the writing of it, never the crypto.

Elements come out in the order of the W3C schema; XEP-0241's own examples put CarriedKeyName
first, which no tool can decrypt. What is read may have any order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from archive_crypt.errors import BadRequest
from archive_crypt.model import EncryptedKey, SealedItem, UploadedKey

XMLENC = "http://www.w3.org/2001/04/xmlenc#"
XMLENC11 = "http://www.w3.org/2009/xmlenc11#"
XMLDSIG = "http://www.w3.org/2000/09/xmldsig#"

CONTENT_TYPE = f"{XMLENC}Content"
KEY_TYPE = f"{XMLENC}EncryptedKey"

_ENC = f"{{{XMLENC}}}"
_SIG = f"{{{XMLDSIG}}}"
_METHOD, _CIPHER_DATA, _CIPHER_VALUE = (
    f"{_ENC}{name}" for name in ("EncryptionMethod", "CipherData", "CipherValue")
)
_KEY_INFO, _KEY_NAME, _RETRIEVAL_METHOD = (
    f"{_SIG}{name}" for name in ("KeyInfo", "KeyName", "RetrievalMethod")
)
#: No entity, no DTD, nothing fetched.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
_XML_SPACE = " \t\r\n"
_XML_SPACE_OCTETS = _XML_SPACE.encode()

#: rsa-oaep names its hash functions beside it; the other algorithms say all by their URI.
_METHOD_DETAILS = {
    f"{XMLENC11}rsa-oaep": (
        f"<DigestMethod xmlns='{XMLDSIG}' Algorithm='{XMLENC}sha256'/>"
        f"<MGF xmlns='{XMLENC11}' Algorithm='{XMLENC11}mgf1sha256'/>"
    ),
}


@dataclass(frozen=True, slots=True)
class RSAKeyValue:
    """An RSA public key as XML Signature writes it: two big-endian numbers, and its KeyName."""

    name: str | None
    modulus: bytes
    exponent: bytes


@dataclass(frozen=True, slots=True)
class ReadData:
    """An EncryptedData as read: `key_names` and `key_ids` say which EncryptedKeys open it."""

    algorithm: str
    key_names: tuple[str, ...]
    key_ids: tuple[str, ...]
    cipher: bytes


@dataclass(frozen=True, slots=True)
class ReadKey:
    """An EncryptedKey as read; `digest` and `mgf` are None where the element is silent."""

    id: str | None
    key_name: str | None
    recipients: tuple[str, ...]
    algorithm: str
    digest: str | None
    mgf: str | None
    cipher: bytes


def decode_base64(text: str) -> bytes:
    """The octets of a base64 text that may hold XML white space, and nothing else besides.

    :raises BadRequest: it is not base64 (Python's lenient decoder would drop what it cannot read).
    """
    try:
        return base64.b64decode(text.encode("ascii").translate(None, _XML_SPACE_OCTETS), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A value is not base64.") from None


def write_data(item: SealedItem, key_ids: Sequence[str] = ()) -> str:
    """EncryptedData of one sealed item. `key_ids`: the Ids of the EncryptedKeys on the same page.

    A RetrievalMethod for each lets xmlsec open the page by itself; one that pointed nowhere
    would make it fail, so only keys of this very page may be named.
    """
    methods = "".join(f"<RetrievalMethod URI='#{key_id}' Type='{KEY_TYPE}'/>" for key_id in key_ids)
    return (
        f"<EncryptedData xmlns='{XMLENC}' Type='{CONTENT_TYPE}'>"
        f"<EncryptionMethod Algorithm={quoteattr(item.algorithm)}/>"
        f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{escape(item.key_name)}</KeyName>{methods}</KeyInfo>"
        f"{_cipher_data(item.cipher)}</EncryptedData>"
    )


def write_key(key: EncryptedKey, key_id: str) -> str:
    """EncryptedKey under an Id that is unique on its page."""
    return (
        f"<EncryptedKey xmlns='{XMLENC}' Id='{key_id}'>"
        f"<EncryptionMethod Algorithm={quoteattr(key.algorithm)}>"
        f"{_METHOD_DETAILS.get(key.algorithm, '')}</EncryptionMethod>"
        f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{escape(key.recipient)}</KeyName></KeyInfo>"
        f"{_cipher_data(key.cipher)}"
        f"<CarriedKeyName>{escape(key.key_name)}</CarriedKeyName></EncryptedKey>"
    )


def write_key_value(name: str, modulus: bytes, exponent: bytes) -> str:
    """KeyInfo of an RSA public key, its KeyName beside KeyValue as the schema has it."""
    return (
        f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{escape(name)}</KeyName><KeyValue><RSAKeyValue>"
        f"<Modulus>{base64.b64encode(modulus).decode()}</Modulus>"
        f"<Exponent>{base64.b64encode(exponent).decode()}</Exponent>"
        "</RSAKeyValue></KeyValue></KeyInfo>"
    )


def read_data(element: etree._Element) -> ReadData:
    """What an EncryptedData element says.

    :raises BadRequest: it has no algorithm, or its CipherValue is missing or not base64.
    """
    children = _children(element)
    names, ids = _keys(children.get(_KEY_INFO))
    return ReadData(
        algorithm=_algorithm(children.get(_METHOD)),
        key_names=names,
        key_ids=ids,
        cipher=_cipher(children.get(_CIPHER_DATA)),
    )


def read_keys_of(element: etree._Element) -> frozenset[str]:
    """The names, and the Ids, of the EncryptedKeys that open an EncryptedData, whatever else it says."""
    names, ids = _keys(_children(element).get(_KEY_INFO))
    return frozenset(names + ids)


def read_key(element: etree._Element) -> ReadKey:
    """What an EncryptedKey element says, in whatever order it says it.

    :raises BadRequest: it has no algorithm, or its CipherValue is missing or not base64.
    """
    children = _children(element)
    method = children.get(_METHOD)
    return ReadKey(
        id=element.get("Id"),
        key_name=_stripped(children.get(f"{_ENC}CarriedKeyName")),
        recipients=_key_names(children.get(_KEY_INFO)),
        algorithm=_algorithm(method),
        digest=_attribute(method, f"{_SIG}DigestMethod"),
        mgf=_attribute(method, f"{{{XMLENC11}}}MGF"),
        cipher=_cipher(children.get(_CIPHER_DATA)),
    )


def read_key_value(info: etree._Element) -> RSAKeyValue | None:
    """The RSA public key in a KeyInfo; None if it holds none (DSA, X.509, ...).

    The KeyName may stand beside KeyValue, as the schema has it, or inside, as in Example 7 of
    XEP-0241; beside wins.

    :raises BadRequest: a part is missing or not base64.
    """
    value = info.find(f"{_SIG}KeyValue")
    rsa = None if value is None else value.find(f"{_SIG}RSAKeyValue")
    if value is None or rsa is None:
        return None
    names = _key_names(info) or _key_names(value)
    return RSAKeyValue(
        name=names[0] if names else None,
        modulus=_octets(rsa, "Modulus"),
        exponent=_octets(rsa, "Exponent"),
    )


def read_key_names(parent: etree._Element) -> tuple[str, ...]:
    """The ``<KeyName/>`` children of a request (XEP-0241 5), without the empty ones."""
    return _key_names(parent)


def names_in(content: str) -> tuple[str, ...]:
    """The KeyNames of the data keys that EncryptedData in `content` (well-formed, ours to trust) name:
    of the element itself, or of any in it."""
    root = etree.fromstring(content, _PARSER)
    found = dict.fromkeys(
        name for data in root.iter(f"{_ENC}EncryptedData") for name in _key_names(data.find(f"{_SIG}KeyInfo"))
    )
    return tuple(found)


def uploaded_key(content: str) -> UploadedKey:
    """An EncryptedKey as its owner uploaded it, whatever of it is missing."""
    element = etree.fromstring(content, _PARSER)
    name = _stripped(element.find(f"{_ENC}CarriedKeyName")) or ""
    return UploadedKey(name, tuple(dict.fromkeys(_key_names(element.find(f"{_SIG}KeyInfo")))), content)


def _keys(info: etree._Element | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names, ids = [], []
    for child in () if info is None else info:
        tag = child.tag
        if tag == _KEY_NAME:
            names.append(_stripped(child))
        elif tag == _RETRIEVAL_METHOD:
            ids.append((child.get("URI") or "").removeprefix("#"))
    return tuple([name for name in names if name]), tuple(ids)


def _cipher_data(cipher: bytes) -> str:
    return f"<CipherData><CipherValue>{base64.b64encode(cipher).decode()}</CipherValue></CipherData>"


def _key_names(parent: etree._Element | None) -> tuple[str, ...]:
    if parent is None:
        return ()
    names = [_stripped(child) for child in parent if child.tag == _KEY_NAME]
    return tuple([name for name in names if name])


def _children(element: etree._Element) -> dict[str, etree._Element]:
    """The first child of each tag: to look once is faster than to find each."""
    found: dict[str, etree._Element] = {}
    for child in element:
        found.setdefault(child.tag, child)
    return found


def _algorithm(method: etree._Element | None) -> str:
    algorithm = None if method is None else method.get("Algorithm")
    if not algorithm:
        raise BadRequest("An EncryptionMethod with its Algorithm is missing.")
    return algorithm


def _attribute(method: etree._Element | None, path: str) -> str | None:
    child = None if method is None else method.find(path)
    return None if child is None else child.get("Algorithm")


def _cipher(data: etree._Element | None) -> bytes:
    values = [] if data is None else [child.text for child in data if child.tag == _CIPHER_VALUE]
    text = values[0] if values else None
    if not text:
        raise BadRequest("A CipherValue is missing.")
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # most are as servers of ours write them
    except ValueError:
        pass
    text = "".join(text.split())
    if not text:
        raise BadRequest("A CipherValue is missing.")
    return decode_base64(text + "=" * (-len(text) % 4))  # XEP-0241's own examples have no padding


def _octets(rsa: etree._Element, tag: str) -> bytes:
    child = rsa.find(f"{_SIG}{tag}")
    if child is None or not child.text:
        raise BadRequest(f"An RSAKeyValue has no {tag}.")
    return decode_base64(child.text)


def _stripped(element: etree._Element | None) -> str | None:
    return None if element is None else (element.text or "").strip(_XML_SPACE)

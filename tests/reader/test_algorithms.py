"""Whatever others sealed is opened: each algorithm by a vector that libxmlsec makes, which is not ours."""

import pytest
import xmlsec
from lxml import etree

from archive_crypt.core import times, xmlenc
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.crypto import opening
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.protocol import ChatPage, Listed
from tests.kit import LAPTOP, PHONE
from tests.reader.kit import read, said

ENC, ENC11, SIG = xmlenc.XMLENC, xmlenc.XMLENC11, xmlenc.XMLDSIG
START = "2026-11-21T10:00:00Z"
TEXT = "<from secs='0'><body>By yonder blessed moon</body></from>"

DATA = {
    f"{ENC}tripledes-cbc": (xmlsec.KeyData.DES, 192),
    f"{ENC}aes128-cbc": (xmlsec.KeyData.AES, 128),
    f"{ENC}aes192-cbc": (xmlsec.KeyData.AES, 192),
    f"{ENC}aes256-cbc": (xmlsec.KeyData.AES, 256),
    f"{ENC11}aes128-gcm": (xmlsec.KeyData.AES, 128),
    f"{ENC11}aes192-gcm": (xmlsec.KeyData.AES, 192),
    f"{ENC11}aes256-gcm": (xmlsec.KeyData.AES, 256),
}
SHA = {
    "sha1": f"{SIG}sha1",
    "sha224": "http://www.w3.org/2001/04/xmldsig-more#sha224",
    "sha256": f"{ENC}sha256",
    "sha384": "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "sha512": f"{ENC}sha512",
}
#: Key transport, and the hash functions of OAEP and of its MGF1, where they are told.
KEYS = [
    (f"{ENC}rsa-1_5", None, None),
    (f"{ENC}rsa-oaep-mgf1p", None, None),
    (f"{ENC}rsa-oaep-mgf1p", "sha256", None),
    (f"{ENC11}rsa-oaep", None, None),
    (f"{ENC11}rsa-oaep", "sha1", "sha256"),
    *((f"{ENC11}rsa-oaep", digest, digest) for digest in SHA),
]

data_algorithms = pytest.mark.parametrize("algorithm", DATA, ids=lambda uri: uri.partition("#")[2])
transports = pytest.mark.parametrize("transport", KEYS, ids=lambda one: f"{one[0][-9:]} {one[1]} {one[2]}")


def template(algorithm, transport):
    """What libxmlsec fills in."""
    uri, digest, mgf = transport
    details = f"<DigestMethod xmlns='{SIG}' Algorithm='{SHA[digest]}'/>" if digest else ""
    details += f"<MGF xmlns='{ENC11}' Algorithm='{ENC11}mgf1{mgf}'/>" if mgf else ""
    empty = "<CipherData><CipherValue/></CipherData>"
    return etree.fromstring(
        f"<EncryptedData xmlns='{ENC}' Type='{ENC}Content'><EncryptionMethod Algorithm='{algorithm}'/>"
        f"<KeyInfo xmlns='{SIG}'><EncryptedKey xmlns='{ENC}'>"
        f"<EncryptionMethod Algorithm='{uri}'>{details}</EncryptionMethod><KeyInfo xmlns='{SIG}'/>{empty}"
        f"<CarriedKeyName>k</CarriedKeyName></EncryptedKey></KeyInfo>{empty}</EncryptedData>"
    )


def sealed_by_xmlsec(text, algorithm, transport=KEYS[0], private_key=LAPTOP):
    """A page of one EncryptedData, sealed for this key by libxmlsec."""
    data = template(algorithm, transport)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(opening.dump(private_key, None), xmlsec.KeyFormat.PEM))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(*DATA[algorithm], xmlsec.KeyDataType.SESSION)
    context.encrypt_binary(data, text.encode())
    info = data.find(f"{{{SIG}}}KeyInfo")
    (key,) = info
    info.remove(key)
    etree.SubElement(info, f"{{{SIG}}}KeyName").text = "k"
    collection = Listed("juliet@capulet.lit", times.parse(START), START, crypt=True)
    return ChatPage(collection, (data,), (key,), 0, None)


@pytest.mark.clause("SDK-02")
@data_algorithms
def test_data(algorithm):
    """Each algorithm of EncryptedData is opened; where it would not show an alteration, that is said."""
    page = sealed_by_xmlsec(TEXT, algorithm)
    (entry,) = read(page)
    assert said([entry]) == ["By yonder blessed moon"]
    assert (Finding.ALTERABLE in entry.findings) is not algorithm.endswith("gcm")


@pytest.mark.clause("SDK-02")
@transports
def test_keys(transport):
    """Each algorithm of EncryptedKeys is unwrapped, with whatever hash functions it has."""
    page = sealed_by_xmlsec(TEXT, f"{ENC11}aes256-gcm", transport)
    assert said(read(page)) == ["By yonder blessed moon"]
    (entry,) = read(page, PHONE)
    assert entry.findings == (Finding.NO_KEY,)


@pytest.mark.clause("SDK-02")
@transports
def test_a_corrupted_key(transport):
    """A corrupted EncryptedKey is one and the same failure, whatever it was wrapped with."""
    page = sealed_by_xmlsec(TEXT, f"{ENC}aes128-cbc", transport)
    value = page.keys[0].find(f".//{{{ENC}}}CipherValue")
    octets = bytearray(xmlenc.decode_base64(value.text))
    octets[7] ^= 1
    value.text = xmlenc.base64.b64encode(octets).decode()
    (entry,) = read(page)
    # By chance, one CBC plaintext in 2^8 has a padding; then it is no message.
    assert entry.item is None
    assert entry.suspicious


@pytest.mark.clause("SDK-01")
@pytest.mark.parametrize("namespace", [None, *DIALECTS])
def test_namespaces(namespace):
    """What is inside may be in any of the three namespaces, or in none."""
    own = f" xmlns='{namespace}'" if namespace else ""
    page = sealed_by_xmlsec(TEXT.replace("<from", f"<from{own}"), f"{ENC}aes128-cbc")
    assert said(read(page)) == ["By yonder blessed moon"]


@pytest.mark.clause("SDK-03")
@pytest.mark.parametrize("change", [lambda text: text.rstrip("="), lambda text: "\n ".join(text), str.strip])
def test_base64(change):
    """White space in a CipherValue, and a padding that is missing, do not matter; ours has neither fault."""
    for extra in ("", "a", "aa"):  # so that there is every padding
        page = sealed_by_xmlsec(TEXT.replace("moon", f"moon{extra}"), f"{ENC11}aes128-gcm")
        for element in (*page.parts, *page.keys):
            value = element.find(f".//{{{ENC}}}CipherValue")
            value.text = change(value.text)
        assert said(read(page)) == [f"By yonder blessed moon{extra}"]


@pytest.mark.clause("SDK-05")
def test_what_is_not_ours_is_told():
    """An item that none of our keys opens is said to be there, in its place; the others are shown."""
    pages = [sealed_by_xmlsec(TEXT, f"{ENC}aes128-cbc", private_key=key) for key in (LAPTOP, PHONE, LAPTOP)]
    parts, keys = [], []
    for number, page in enumerate(pages):
        page.parts[0].find(f".//{{{SIG}}}KeyName").text = f"k{number}"
        page.keys[0].find(f"{{{ENC}}}CarriedKeyName").text = f"k{number}"
        parts, keys = [*parts, *page.parts], [*keys, *page.keys]
    entries = read(ChatPage(pages[0].collection, tuple(parts), tuple(keys), 0, None))
    assert said(entries) == ["By yonder blessed moon", None, "By yonder blessed moon"]
    assert entries[1].findings == (Finding.NO_KEY,)

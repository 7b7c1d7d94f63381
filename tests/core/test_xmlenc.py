"""XML Encryption's elements. Their use by other tools is tested in tests/crypto and end to end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import xmlenc
from archive_crypt.core.xmlenc import RSAKeyValue
from archive_crypt.errors import BadRequest
from archive_crypt.model import EncryptedKey, SealedItem

ENC, SIG = f"{{{xmlenc.XMLENC}}}", f"{{{xmlenc.XMLDSIG}}}"
OAEP = f"{xmlenc.XMLENC11}rsa-oaep"
NAMES = st.text(st.characters(min_codepoint=33, exclude_categories=("Cs", "Cc", "Cn", "Z")), min_size=1)


@given(NAMES, st.binary(min_size=1), st.lists(st.from_regex("k[0-9a-f]{8}", fullmatch=True)))
def test_data_reads_back(name, cipher, key_ids):
    """An EncryptedData says what it was given."""
    element = etree.fromstring(xmlenc.write_data(SealedItem(0, name, "urn:gcm", cipher), key_ids))
    assert xmlenc.read_data(element) == xmlenc.ReadData("urn:gcm", (name,), tuple(key_ids), cipher)


@given(NAMES, NAMES, st.binary(min_size=1))
def test_key_reads_back(name, recipient, cipher):
    """An EncryptedKey says what it was given; rsa-oaep names its hash functions."""
    element = etree.fromstring(xmlenc.write_key(EncryptedKey(name, recipient, OAEP, cipher), "k1"))
    digest, mgf = f"{xmlenc.XMLENC}sha256", f"{xmlenc.XMLENC11}mgf1sha256"
    expected = xmlenc.ReadKey("k1", name, (recipient,), OAEP, digest, mgf, cipher)
    assert xmlenc.read_key(element) == expected


def test_schema_order():
    """An EncryptedKey has the order of the W3C schema, which tools insist on."""
    element = etree.fromstring(xmlenc.write_key(EncryptedKey("d", "p", OAEP, b"x"), "k1"))
    assert [child.tag for child in element] == [
        f"{ENC}EncryptionMethod",
        f"{SIG}KeyInfo",
        f"{ENC}CipherData",
        f"{ENC}CarriedKeyName",
    ]


def test_order_of_the_xep_is_read():
    """The order of XEP-0241's own examples, CarriedKeyName first, is read too."""
    element = etree.fromstring(
        f"<EncryptedKey xmlns='{xmlenc.XMLENC}'><CarriedKeyName>dataKey1</CarriedKeyName>"
        f"<EncryptionMethod Algorithm='{xmlenc.XMLENC}rsa-1_5'/>"
        f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'><KeyName>romeoPublicKey1</KeyName></KeyInfo>"
        "<CipherData><CipherValue>QUJD</CipherValue></CipherData></EncryptedKey>"
    )
    read = xmlenc.read_key(element)
    assert (read.key_name, read.recipients, read.cipher) == ("dataKey1", ("romeoPublicKey1",), b"ABC")


def key_info(inner):
    return etree.fromstring(f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'>{inner}</KeyInfo>")


RSA = "<RSAKeyValue><Modulus> QU\n JD </Modulus><Exponent>AQAB</Exponent></RSAKeyValue>"
PARTS = (b"ABC", b"\x01\x00\x01")


@pytest.mark.parametrize(
    ("inner", "name"),
    [
        (f"<KeyValue><KeyName>inside</KeyName>{RSA}</KeyValue>", "inside"),
        (f"<KeyName>beside</KeyName><KeyValue>{RSA}</KeyValue>", "beside"),
        (f"<KeyName>beside</KeyName><KeyValue><KeyName>inside</KeyName>{RSA}</KeyValue>", "beside"),
        (f"<KeyName> </KeyName><KeyValue>{RSA}</KeyValue>", None),
        (f"<KeyValue>{RSA}</KeyValue>", None),
    ],
)
def test_where_the_name_stands(inner, name):
    """A public key's name is taken from beside KeyValue or, as in Example 7, from inside it."""
    assert xmlenc.read_key_value(key_info(inner)) == RSAKeyValue(name, *PARTS)


def test_written_key_value_reads_back():
    """A public key we write has its name where the schema has it."""
    element = etree.fromstring(xmlenc.write_key_value("laptop", *PARTS))
    assert [child.tag for child in element] == [f"{SIG}KeyName", f"{SIG}KeyValue"]
    assert xmlenc.read_key_value(element) == RSAKeyValue("laptop", *PARTS)


@pytest.mark.parametrize("inner", ["<X509Data/>", "<KeyValue><DSAKeyValue/></KeyValue>", "<KeyValue/>", ""])
def test_no_rsa_key(inner):
    """A KeyInfo without an RSA key holds none."""
    assert xmlenc.read_key_value(key_info(inner)) is None


@pytest.mark.parametrize(
    "rsa",
    [
        "<Modulus>AQ!A$B</Modulus><Exponent>AQAB</Exponent>",
        "<Modulus>AQAB=garbage</Modulus><Exponent>AQAB</Exponent>",
        "<Modulus>AQABA</Modulus><Exponent>AQAB</Exponent>",
        "<Modulus/><Exponent>AQAB</Exponent>",
        "<Modulus>AQAB</Modulus>",
    ],
)
def test_broken_key_values(rsa):
    """A number that is missing or not base64 is refused, not guessed."""
    with pytest.raises(BadRequest):
        xmlenc.read_key_value(key_info(f"<KeyValue><RSAKeyValue>{rsa}</RSAKeyValue></KeyValue>"))

"""An independent tool opens what comes over the wire: python-xmlsec, given one private key and no
more, finds the data key by itself through the RetrievalMethods.
"""

import pytest
import xmlsec
from lxml import etree
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.crypto import opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.model import EncryptedKey, SealedItem
from archive_crypt.store.interfaces import AddKeys, Append
from tests.kit import LAPTOP, PHONE

PHONE_ONLY = "<KeyName xmlns='http://www.w3.org/2000/09/xmldsig#'>phone</KeyName>"


def opened_by_xmlsec(page, private_key):
    """The texts of a page as xmlsec decrypts it: the page is all it is given, with one private key."""
    page = etree.fromstring(etree.tostring(page))
    xmlsec.tree.add_ids(page, ["Id"])
    manager = xmlsec.KeysManager()
    manager.add_key(
        xmlsec.Key.from_memory(opening.dump(private_key, None), xmlsec.constants.KeyDataFormatPem)
    )
    for data in page.findall(f"{{{xmlsec.constants.EncNs}}}EncryptedData"):
        xmlsec.EncryptionContext(manager).decrypt(data)
    return [body.text for body in page.iter("{*}body")]


@ensureDeferred
async def test_two_recipients_ours_second(service, login):
    """A page whose keys are wrapped for two public keys is opened by either, in every dialect."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"), (PHONE, "phone"))
    await romeo.says("juliet@localhost", "With love's light wings", "did I o'erperch", "these walls")
    (shown,) = await romeo.collections()
    for namespace in DIALECTS:
        page = await romeo.page(shown, namespace=namespace)
        expected = ["With love's light wings", "did I o'erperch", "these walls"]
        assert opened_by_xmlsec(page, LAPTOP) == expected
        assert opened_by_xmlsec(page, PHONE) == expected


@ensureDeferred
async def test_filtered_by_key_name(service, login):
    """A page asked for with a KeyName is opened by that key, and by no other."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"), (PHONE, "phone"))
    await romeo.says("juliet@localhost", "For stony limits")
    (shown,) = await romeo.collections()
    page = await romeo.page(shown, PHONE_ONLY)
    assert opened_by_xmlsec(page, PHONE) == ["For stony limits"]
    with pytest.raises(xmlsec.Error):
        opened_by_xmlsec(page, LAPTOP)


@pytest.mark.clause("0241-5-02", "0241-5-04")
@ensureDeferred
async def test_second_data_key_on_the_page(service, login):
    """A page with items under two data keys is opened as a whole."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"))
    await romeo.says("juliet@localhost", "under the first key")
    (shown,) = await romeo.collections()
    await add_under_second_key(service, "under the second key")
    page = await romeo.page(shown)
    assert opened_by_xmlsec(page, LAPTOP) == ["under the first key", "under the second key"]


async def add_under_second_key(service, text):
    """What no recorder of ours does yet: a further data key in a collection (XEP-0241 2 allows it)."""
    storage = service._storage
    ((collection,),) = await storage._readers.runQuery("SELECT id FROM collection")
    ring = KeyRing()
    key = ring.create()
    wrapped = ring.wrap(key, LAPTOP.public("laptop"))
    algorithm = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
    cipher = ring.seal(key, f"<to xmlns='urn:xmpp:archive'><body>{text}</body></to>".encode())
    owner = "romeo@localhost"
    await storage.apply(
        [
            AddKeys(
                owner,
                collection,
                key.name,
                key.algorithm,
                (EncryptedKey(key.name, "laptop", algorithm, wrapped),),
            ),
            Append(owner, collection, SealedItem(1, key.name, key.algorithm, cipher)),
        ]
    )
    ring.close()


@pytest.mark.parametrize("seal", ["2009/xmlenc11#aes256-gcm", "2001/04/xmlenc#aes128-cbc"])
@pytest.mark.parametrize("wrap", ["2001/04/xmlenc#rsa-oaep-mgf1p", "2001/04/xmlenc#rsa-1_5"])
@ensureDeferred
async def test_older_algorithms(serve, login, seal, wrap):
    """What an operator turns on for old readers is opened as well."""
    service = serve(seal_algorithm=f"http://www.w3.org/{seal}", wrap_algorithm=f"http://www.w3.org/{wrap}")
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"))
    await romeo.says("juliet@localhost", "cannot hold love out")
    (shown,) = await romeo.collections()
    assert opened_by_xmlsec(await romeo.page(shown), LAPTOP) == ["cannot hold love out"]

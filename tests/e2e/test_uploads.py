"""What a client encrypted and uploaded: kept, opened again by its owner alone, and nowhere else in clear."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.logger import globalLogPublisher

from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import XMLENC11, write_data, write_key
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.demo import search_tables
from archive_crypt.model import EncryptedKey, SealedItem
from tests.e2e.conftest import DOMAIN
from tests.kit import LAPTOP, opened

SECRET = "What's in a name"
CHAT = f"with='juliet@{DOMAIN}' start='2026-01-01T00:00:00Z'"
GCM, OAEP = f"{XMLENC11}aes256-gcm", f"{XMLENC11}rsa-oaep"


def encrypted(text):
    """EncryptedData and EncryptedKey as a client makes them."""
    ring = KeyRing()
    key = ring.create(GCM)
    item = f"<to xmlns='{F.namespace}' secs='0'><body>{text}</body></to>".encode()
    data = SealedItem(0, key.name, GCM, ring.seal(key, item))
    wrapped = EncryptedKey(key.name, "laptop", OAEP, ring.wrap(key, LAPTOP.public("laptop"), OAEP))
    ring.close()
    return write_data(data) + write_key(wrapped, "mine")


@pytest.mark.clause("0241-2-19", "0241-2-14")
@ensureDeferred
async def test_encrypted_uploads(service, login, dsn):
    """Of an encrypted upload no word is in any table or log; its owner opens it with his private key."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        romeo = await login(service, "romeo")
        chat = f"<chat {CHAT} subject='seen'>{encrypted(SECRET)}</chat>"
        answer = await romeo.ask(f"<save xmlns='{F.namespace}'>{chat}</save>", "set")
        assert answer.get("type") == "result"
        (shown,) = await romeo.collections()
        (item,) = opened(await romeo.page(shown), LAPTOP)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert item.bodies == ((None, SECRET),)
    assert search_tables(dsn, [SECRET])[1] == []
    assert search_tables(dsn, ["seen"])[1]  # the search can find
    assert SECRET not in repr(events)

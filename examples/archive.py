"""Turn an encrypted archive on, say something, read all that was said:

    archive.py JID PASSWORD CONTACT KEYFILE [HOST PORT]

A key file without a passphrase: ``archive-reader keygen --no-passphrase --out KEYFILE``. Of a server that has
its certificate from itself: ``SSL_CERT_FILE=CERTIFICATE``.
"""

import asyncio
import sys
from pathlib import Path

import slixmpp

from archive_crypt.crypto import opening
from archive_crypt.reader import xep_0241
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Query


async def main(jid, password, contact, key_file, host=None, port=5222):
    key = opening.load(Path(key_file).read_bytes(), None)
    client = slixmpp.ClientXMPP(jid, password)
    client.register_plugin("xep_0241", module=xep_0241)  # and xep_0136, which it stands on
    client.connect(host, int(port))
    await client.wait_until("session_start")
    await client.plugin["xep_0241"].enable([key.public()])
    client.send_message(contact, "But, soft! what light through yonder window breaks?", mtype="chat")
    book = Book([key])
    async for collection in client.plugin["xep_0136"].collections(Query(contact)):
        book.begin(collection)
        async for page in client.plugin["xep_0241"].pages(collection, book):
            for entry in book.read(page):
                # An item that could not be read is None; the findings say why, and what else is odd.
                print(entry.item and entry.item.bodies, [finding.text for finding in entry.findings])
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))

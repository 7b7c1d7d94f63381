"""Turn an encrypted archive on, say something, read all that was said:

    archive.py JID PASSWORD CONTACT KEYFILE [HOST PORT CERTIFICATE]

A key file without a passphrase: ``archive-reader keygen --no-passphrase --out KEYFILE``.
"""

import asyncio
import pathlib
import sys

import slixmpp

from archive_crypt.crypto import opening
from archive_crypt.reader import xep_0136, xep_0241
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Query


async def main(jid, password, contact, key_file, host=None, port=5222, certificate=None):
    key = opening.load(pathlib.Path(key_file).read_bytes(), None)
    client = slixmpp.ClientXMPP(jid, password)
    client.ca_certs = certificate
    client.register_plugin("xep_0136", module=xep_0136)
    client.register_plugin("xep_0241", module=xep_0241)
    client.connect(host, int(port))
    await client.wait_until("session_start")
    await client.plugin["xep_0241"].enable([key.public()])
    client.send_message(contact, "But, soft! what light through yonder window breaks?", mtype="chat")
    book = Book([key])
    async for collection in client.plugin["xep_0136"].collections(Query(contact)):
        book.begin(collection)
        async for page in client.plugin["xep_0241"].pages(collection, book):
            for entry in book.read(page):
                item = entry.item  # None: it cannot be read, and entry.findings say why
                said = [item.kind, *(text for _, text in item.bodies)] if item else entry.findings
                print(collection.told, *said)
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))

"""Say something off the record, if the contact agrees and the user's server goes along:

    negotiate.py JID PASSWORD CONTACT [HOST PORT CERTIFICATE]

CONTACT with a resource, as in juliet@capulet.example/balcony. What is offered is what the user prefers.
"""

import asyncio
import sys

import slixmpp

from archive_crypt.reader import xep_0136, xep_0155


async def main(jid, password, contact, host=None, port=5222, certificate=None):
    client = slixmpp.ClientXMPP(jid, password)
    client.ca_certs = certificate
    client.register_plugin("xep_0136", module=xep_0136)
    client.register_plugin("xep_0155", module=xep_0155)
    client.connect(host, int(port))
    await client.wait_until("session_start")
    client.send_presence()
    await client.get_roster()  # only contacts are answered
    talks = client.plugin["xep_0155"]
    negotiated = await talks.offer(contact)
    print(negotiated.outcome.name)
    if await talks.may_send(negotiated.jid, negotiated.thread):
        message = client.make_message(negotiated.jid, "It is the east, and Juliet is the sun!", mtype="chat")
        message["thread"] = negotiated.thread
        message.send()
        print("sent:", (await talks.logging(negotiated.jid, negotiated.thread)).value, "be logged")
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))

"""Say something off the record, if the contact agrees and the user's server goes along:

    negotiate.py JID PASSWORD CONTACT [HOST PORT]

CONTACT with a resource, as in juliet@capulet.example/balcony. What is offered is what the user prefers. Of a
server that has its certificate from itself: ``SSL_CERT_FILE=CERTIFICATE``.
"""

import asyncio
import sys

import slixmpp

from archive_crypt.reader import xep_0136, xep_0155


async def main(jid, password, contact, host=None, port=5222):
    client = slixmpp.ClientXMPP(jid, password)
    client.register_plugin("xep_0136", module=xep_0136)
    client.register_plugin("xep_0155", module=xep_0155)
    client.connect(host, int(port))
    await client.wait_until("session_start")
    client.send_presence()
    await client.get_roster()  # only contacts are answered
    talks = client.plugin["xep_0155"]
    negotiated = await talks.offer(contact)
    print(negotiated.outcome.name)
    logging = await talks.logging(negotiated.jid, negotiated.thread)
    if logging is not None:  # else nothing may be sent
        message = client.make_message(negotiated.jid, "It is the east, and Juliet is the sun!", mtype="chat")
        message["thread"] = negotiated.thread
        message.send()
        print("sent:", logging.value, "be logged")
    await talks.close()  # some servers would archive nothing with the contact any more
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))

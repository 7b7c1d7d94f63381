"""Message archives for XMPP that cannot read themselves (XEP-0241 over XEP-0136).

The map, from the words up (imports point down only; ``tests/test_layers.py`` holds it)::

    errors  model                 0  words: failures and frozen values
    core/   crypto/               1  pure: values and bytes in, values and bytes out
    store/                        2  memory and PostgreSQL behind one interface; the writer
    recorder  archiver            3  the service: does what the core decides
    xmpp/                         4  subprotocol handler: iqs <-> archiver
    hosts/  tap  cli  reader/     5  the ends: what starts, serves and reads
"""

__version__ = "0.1.0"

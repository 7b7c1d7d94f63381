"""What one client, and all of them, may take of the embedded host. Numbers only; who enforces
each is named beside it."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the embedded host. Passing one ends that client's stream (or refuses that
    stanza); every other stream goes on."""

    # streams: embedded.py
    connections: int = 1000  # open at once, all users together
    resources: int = 20  # streams of one user

    # the parser: guard.py
    stanza: int = 256 * KIB  # bytes
    stanza_before_login: int = 16 * KIB  # bytes; RFC 6120 13.12 asks for 10,000 at least
    depth: int = 64  # elements inside each other; the stanza itself is 1
    elements: int = 20_000  # in one stanza: each costs about 600 bytes of memory

    # the connection: c2s.py
    # Bytes that a client has not read, beyond what the transport holds: 32 full pages of an
    # archive, for all that is written in one turn of the reactor counts before any of it can leave.
    unsent: int = 4 * MIB
    idle: float = 300.0  # seconds of silence, then we ping
    answer: float = 60.0  # seconds for the answer to that ping
    linger: float = 2.0  # seconds a closed stream has to close its connection

    # login: negotiation.py
    login: float = 30.0  # seconds from the connection to a bound resource
    login_tries: int = 3

    # messages for users who are away, in memory: offline.py
    offline_messages: int = 100  # for each user
    offline_bytes: int = 512 * KIB  # for each user; below `unsent`, as they leave in one burst

    # nodes of users, in memory: pep.py
    pep_nodes: int = 50  # of each user
    pep_items: int = 20  # in each node
    pep_item: int = 32 * KIB  # bytes of an item's payload; all of a node leave in one burst

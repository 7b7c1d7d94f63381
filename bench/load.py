"""The work: whose messages, which words, in which order. Seeded, so that every run says the same."""

from __future__ import annotations

import random

from twisted.words.xish import domish

#: Bodies as people write them: log-normal, median 60 characters, at most 2 KB.
_MEDIAN, _SIGMA, _MOST = 60, 0.9, 2000


def bodies(count: int, seed: int = 136) -> list[str]:
    """Texts of messages."""
    source = random.Random(seed)
    lengths = (min(_MOST, max(1, round(source.lognormvariate(0, _SIGMA) * _MEDIAN))) for _ in range(count))
    return ["".join(source.choices("abcdefghij klmno pqrst", k=length)) for length in lengths]


def messages(count: int, owners: int) -> list[domish.Element]:
    """Messages to the owners in turn, each from his own peer, half of them with a thread."""
    made = []
    for number, body in enumerate(bodies(count)):
        owner = number % owners
        message = domish.Element(("jabber:client", "message"))
        message["from"], message["to"] = f"peer{owner}@capulet.lit/chamber", f"user{owner}@montague.lit"
        message["type"], message["id"] = "chat", f"m{number}"
        message.addElement("body", content=body)
        if owner % 2:
            message.addElement("thread", content=f"thread-{owner}")
        made.append(message)
    return made

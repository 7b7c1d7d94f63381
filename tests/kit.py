"""Small things that many tests need."""

from twisted.words.xish import domish


def element(xml, default="jabber:client"):
    """The domish element that `xml` is, as a stream of `default` namespace would give it."""
    found = []
    stream = domish.elementStream()
    stream.DocumentStartEvent = lambda root: None
    stream.ElementEvent = found.append
    stream.DocumentEndEvent = lambda: None
    stream.parse(f"<stream xmlns='{default}'>{xml}</stream>".encode())
    return found[0]

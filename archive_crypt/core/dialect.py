"""The three archive namespaces, one object each. What differs between them is said here only.

Requests in any of them meet one archive; the request's namespace decides names, attributes,
error conditions and the shape of the reply.
"""

from __future__ import annotations

from dataclasses import dataclass

from archive_crypt.errors import ArchiveError


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one archive namespace allows and shows.

    `versioned`: replies carry ``version``; `scoped`: ``<auto/>`` has ``scope``;
    `exactmatch`: ``<list/>`` has ``exactmatch``; `separator` joins namespace and feature name.
    """

    namespace: str
    separator: str
    versioned: bool
    scoped: bool
    exactmatch: bool

    def feature(self, name: str) -> str:
        """The disco#info feature of one part of the protocol: 'auto', 'encrypt', 'manage'..."""
        return f"{self.namespace}{self.separator}{name}"

    def stream_feature(self, default_on: bool) -> str:
        """``<feature/>``, for ``<stream:features/>`` (XEP-0136 13)."""
        # Only 1.0 and later ask for <optional/>. Before, <required/> was forbidden and nothing else named.
        children = ("<optional/>" if self is F else "") + ("<default/>" if default_on else "")
        head = f"<feature xmlns='{self.namespace}'"
        return f"{head}>{children}</feature>" if children else f"{head}/>"

    def condition(self, error: ArchiveError) -> tuple[str, str]:
        """The stanza error condition and type of `error` as this dialect words it."""
        if self is V and error.in_v13 is not None:
            return error.in_v13
        return error.condition, error.type


#: XEP-0136 0.13.
V = Dialect("http://www.xmpp.org/extensions/xep-0136.html#ns", "-", False, False, False)
#: XEP-0136 0.15 to 0.18, and XEP-0241.
T = Dialect("urn:xmpp:tmp:archive", ":", True, False, True)
#: XEP-0136 1.0 to 1.3.1.
F = Dialect("urn:xmpp:archive", ":", True, True, True)

DIALECTS: dict[str, Dialect] = {dialect.namespace: dialect for dialect in (V, T, F)}

RSM = "http://jabber.org/protocol/rsm"


def features(names: tuple[str, ...]) -> tuple[str, ...]:
    """What disco#info announces when these parts of the protocol are offered.

    The bare namespaces are announced too: deployed clients test for them (1.3.1, section 2).
    """
    if not names:
        return ()
    ours = [dialect.namespace for dialect in DIALECTS.values()]
    parts = [dialect.feature(name) for dialect in DIALECTS.values() for name in names]
    return (*ours, *parts, RSM)


def stream_features(default_on: bool) -> tuple[str, ...]:
    """What the stream features announce, one XML text for each namespace.

    `default_on`: who does not say otherwise is archived, which must be announced (XEP-0136 14.1).
    """
    return tuple(dialect.stream_feature(default_on) for dialect in DIALECTS.values())

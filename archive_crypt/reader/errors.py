"""What asking an archive can come to. None of these holds a stanza, a message's text or a key.

They are no XMPPError of slixmpp's: one of those that nobody catches is sent, text and all, to whoever
sent the stanza that was being handled.
"""

from __future__ import annotations


class RequestFailed(Exception):
    """The archive did not do this."""


class NoAnswer(RequestFailed):
    """There is no stream, or no answer came in time. What was asked for may have been done."""


class NotUnderstood(RequestFailed):
    """The answer makes no sense, or paging comes to no end."""


class CannotAsk(RequestFailed):
    """It cannot be asked for, or uploaded, as it is: the text says why. Nothing was asked."""


class NotWanted(RequestFailed):
    """The user's own preferences are against it, or he was asked and did not confirm. Nothing was asked
    of the archive."""


class NotOffered(RequestFailed):
    """Neither the server nor the account offers what this takes."""


class Refused(RequestFailed):
    """The answer is an error: its `condition` and `type` (RFC 6120, 8.3), and its own `text` or ''.

    Conditions that an archive is known to give have classes of their own, see `refusal`.
    """

    def __init__(self, condition: str, type_: str = "", text: str = "") -> None:
        self.condition = condition
        self.type = type_
        self.text = text
        super().__init__(f"{text} ({condition})" if text else condition)


class BadRequest(Refused):
    """The archive takes the request for malformed (bad-request)."""


class Conflict(Refused):
    """Without these keys nobody could open what they encrypt any more (conflict)."""


class FeatureNotImplemented(Refused):
    """The archive cannot do this (feature-not-implemented)."""


class Forbidden(Refused):
    """It is somebody else's archive (forbidden)."""


class NotFound(Refused):
    """There is no such collection, or page (item-not-found)."""


class NotAcceptable(Refused):
    """The archive does not take this: it is too large, it would mix what is sealed with what is in
    clear, or no key can be used (not-acceptable)."""


class NotAllowed(Refused):
    """The operator decided otherwise (not-allowed)."""


class PolicyViolation(Refused):
    """More is asked than the operator allows one user; of type 'wait' it may pass (policy-violation)."""


class ResourceConstraint(Refused):
    """The archive is busy, or full (resource-constraint)."""


class ServiceUnavailable(Refused):
    """There is no archive in this namespace (service-unavailable)."""


class InternalServerError(Refused):
    """The archive has a trouble of its own; of type 'wait' it may pass (internal-server-error)."""


_CLASSES: dict[str, type[Refused]] = {
    "bad-request": BadRequest,
    "conflict": Conflict,
    "feature-not-implemented": FeatureNotImplemented,
    "forbidden": Forbidden,
    "item-not-found": NotFound,
    "not-acceptable": NotAcceptable,
    "not-allowed": NotAllowed,
    "policy-violation": PolicyViolation,
    "resource-constraint": ResourceConstraint,
    "service-unavailable": ServiceUnavailable,
    "internal-server-error": InternalServerError,
}


def refusal(condition: str, type_: str, text: str) -> Refused:
    """The error of this condition's class; plain Refused for one that has none."""
    return _CLASSES.get(condition, Refused)(condition, type_, text)

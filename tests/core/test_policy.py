"""May this stanza be archived at all."""

import pytest

from archive_crypt.core.policy import is_room_private, judge
from archive_crypt.model import Direction, SaveMode
from tests.kit import element

BODY = "<body>Art thou not Romeo?</body>"


def verdict(inner, kind="chat", direction=Direction.FROM, mode=SaveMode.BODY):
    return judge(element(f"<message type='{kind}'>{inner}</message>"), direction, mode)


@pytest.mark.parametrize("kind", ["chat", "normal", "", "made-up"])
def test_conversation(kind):
    """Messages with a body are archived, whatever their type says short of forbidding it."""
    assert verdict(BODY, kind) == (True, "content")


@pytest.mark.parametrize("kind", ["error", "headline"])
def test_no_conversation(kind):
    """Errors and headlines are not."""
    assert verdict(BODY, kind) == (False, kind)


def test_rooms():
    """Of a room, what it delivers is archived, and not what is sent to it: that comes back."""
    assert verdict(BODY, "groupchat") == (True, "content")
    assert verdict(BODY, "groupchat", Direction.TO) == (False, "sent to a room")


@pytest.mark.parametrize("mode", [SaveMode.BODY, SaveMode.MESSAGE])
@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ("<sent xmlns='urn:xmpp:carbons:2'/>", "carbon"),
        ("<received xmlns='urn:xmpp:carbons:2'/>", "carbon"),
        ("<forwarded xmlns='urn:xmpp:forward:0'/>", "forwarded"),
        ("<result xmlns='urn:xmpp:mam:2'/>", "archive result"),
        ("<no-store xmlns='urn:xmpp:hints'/>", "hint"),
        ("<no-permanent-store xmlns='urn:xmpp:hints'/><store xmlns='urn:xmpp:hints'/>", "hint"),
        ("<c xmlns='http://www.xmpp.org/extensions/xep-0200.html#ns'/>", "ESession"),
        ("<init xmlns='http://www.xmpp.org/extensions/xep-0116.html#ns-init'/>", "ESession"),
    ],
)
def test_never(inner, reason, mode):
    """Wrappers of other messages, hints against storing and ESessions are never archived."""
    assert verdict(BODY + inner, mode=mode) == (False, reason)


@pytest.mark.parametrize(
    "form_type",
    [
        "urn:xmpp:ssn",
        "urn:xmpp:chatneg",
        "http://jabber.org/protocol/chatneg",
        "http://www.xmpp.org/extensions/xep-0155.html#ns",
    ],
)
def test_session_negotiation(form_type):
    """Negotiating a session leaves no trace, by whichever of its four names."""
    form = (
        "<feature xmlns='http://jabber.org/protocol/feature-neg'><x xmlns='jabber:x:data' type='form'>"
        f"<field var='FORM_TYPE' type='hidden'><value>{form_type}</value></field></x></feature>"
    )
    assert verdict(BODY + form) == (False, "session negotiation")


@pytest.mark.parametrize(
    "inner", ["", "<body/>", "<body></body>", "<active xmlns='http://jabber.org/protocol/chatstates'/>"]
)
def test_nothing_to_save(inner):
    """Without anything said there is nothing to save, in either mode."""
    for mode in SaveMode.BODY, SaveMode.MESSAGE:
        assert verdict(inner, mode=mode) == (False, "no body")


def test_store_hint():
    """A hint to store makes a message without body worth saving as a whole, and only so."""
    hint = "<store xmlns='urn:xmpp:hints'/>"
    assert verdict(hint, mode=SaveMode.MESSAGE) == (True, "store hint")
    assert verdict(hint) == (False, "no body")
    assert verdict(hint, "error", mode=SaveMode.MESSAGE) == (False, "error")


def test_openpgp_is_content():
    """An OpenPGP payload is something said, even without a body."""
    assert verdict("<openpgp xmlns='urn:xmpp:openpgp:0'>QUJD</openpgp>") == (True, "content")


def test_copying_hint_is_none():
    """A hint against copying says nothing about storing."""
    assert verdict(f"{BODY}<no-copy xmlns='urn:xmpp:hints'/>") == (True, "content")


def test_private_message_in_a_room():
    """A private message through a room is told by its mark."""
    mark = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
    assert is_room_private(element(f"<message type='chat'>{mark}</message>"))
    assert not is_room_private(element("<message type='chat'/>"))

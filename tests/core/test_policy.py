"""May this stanza be archived at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core.message import Message
from archive_crypt.core.policy import Rules, is_room_private, judge
from archive_crypt.model import Direction, SaveMode
from tests.core.vectors import printed, printed_in
from tests.kit import element

BODY = "<body>Art thou not Romeo?</body>"
ESESSION = "<c xmlns='http://www.xmpp.org/extensions/xep-0200.html#ns'><data>QUJD</data></c>"
STORE = "<store xmlns='urn:xmpp:hints'/>"
NO_STORE = "<no-store xmlns='urn:xmpp:hints'/>"
EMPTY_BODY, ACTIVE = "<body/>", "<active xmlns='http://jabber.org/protocol/chatstates'/>"
AXOLOTL = "eu.siacs.conversations.axolotl"
FORWARD_SECRET = [
    f"<encryption xmlns='urn:xmpp:eme:0' namespace='{namespace}'/>"
    for namespace in ("urn:xmpp:otr:0", AXOLOTL, "urn:xmpp:omemo:1", "urn:xmpp:omemo:2")
] + [
    f"<encrypted xmlns='{namespace}'><payload>QUJD</payload></encrypted>"
    for namespace in (AXOLOTL, "urn:xmpp:omemo:1", "urn:xmpp:omemo:2")
]
WRAPPERS = [
    ("<sent xmlns='urn:xmpp:carbons:2'/>", "carbon"),
    ("<received xmlns='urn:xmpp:carbons:2'/>", "carbon"),
    ("<forwarded xmlns='urn:xmpp:forward:0'/>", "forwarded"),
    ("<result xmlns='urn:xmpp:mam:2'/>", "archive result"),
]
BY_DEFAULT, REQUIRED = Rules(), Rules(required=True)


def store_header(name, value):
    return (
        f"<headers xmlns='http://jabber.org/protocol/shim'><header name='{name}'>{value}</header></headers>"
    )


def verdict(inner, kind="chat", direction=Direction.FROM, mode=SaveMode.BODY, rules=BY_DEFAULT):
    message = Message(element(f"<message type='{kind}'>{inner}</message>"))
    return judge(message, direction, mode, rules)


def archived(message, mode=SaveMode.MESSAGE, rules=BY_DEFAULT):
    """Whether a received message is archived; by default as a whole, if at all."""
    return judge(Message(message), Direction.FROM, mode, rules)[0]


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
        *WRAPPERS,
        ("<no-store xmlns='urn:xmpp:hints'/>", "hint"),
        ("<no-permanent-store xmlns='urn:xmpp:hints'/><store xmlns='urn:xmpp:hints'/>", "hint"),
        ("<c xmlns='http://www.xmpp.org/extensions/xep-0200.html#ns'/>", "ESession"),
        ("<init xmlns='http://www.xmpp.org/extensions/xep-0116.html#ns-init'/>", "ESession"),
    ],
)
def test_never(inner, reason, mode):
    """Wrappers of other messages, hints against storing and ESessions are never archived."""
    assert verdict(BODY + inner, mode=mode) == (False, reason)


@pytest.mark.clause("D218-05", "D218-12")
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


@pytest.mark.clause("D374-03")
def test_store_hint():
    """A hint to store makes a message without body worth saving as a whole, and only so."""
    hint = "<store xmlns='urn:xmpp:hints'/>"
    assert verdict(hint, mode=SaveMode.MESSAGE) == (True, "store hint")
    assert verdict(hint) == (False, "no body")
    assert verdict(hint, mode=SaveMode.FALSE) == (False, "no body")
    assert verdict(hint, "error", mode=SaveMode.MESSAGE) == (False, "error")


@pytest.mark.clause("D374-02")
def test_openpgp_is_content():
    """An OpenPGP payload is something said, even without a body."""
    assert verdict("<openpgp xmlns='urn:xmpp:openpgp:0'>QUJD</openpgp>") == (True, "content")


@pytest.mark.clause("D374-05")
def test_copying_hint_is_none():
    """A hint against copying says nothing about storing."""
    assert verdict(f"{BODY}<no-copy xmlns='urn:xmpp:hints'/>") == (True, "content")


def test_private_message_in_a_room():
    """A private message through a room is told by its mark."""
    mark = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
    assert is_room_private(Message(element(f"<message type='chat'>{mark}</message>")))
    assert not is_room_private(Message(element("<message type='chat'/>")))


@pytest.mark.clause("D218-01", "D218-05", "D218-06", "D218-12")
@pytest.mark.parametrize(
    "name", [*printed_in("0155"), *printed_in("0217"), *printed_in("0116"), "0200-07", "0200-08", "0200-09"]
)
def test_printed_sessions(name):
    """Of each printed stanza that negotiates, uses or ends a session nothing is archived."""
    assert not archived(printed(name))


@pytest.mark.clause("D218-07")
def test_offline_session():
    """An ESession begun while its receiver was away is not archived, also when it comes late."""
    message = printed("0187-07")
    assert not archived(message)
    message.addChild(element("<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>"))
    assert not archived(message)


@pytest.mark.clause("D218-02")
def test_error_in_a_session():
    """An error of an ESession is not archived, wherever its ciphertext is."""
    condition = "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
    for inner in f"{ESESSION}<error>{condition}</error>", f"{BODY}<error>{condition}{ESESSION}</error>":
        assert verdict(inner, "error", mode=SaveMode.MESSAGE) == (False, "error")


@pytest.mark.clause("D218-04")
def test_plain_message_of_the_same_thread():
    """What is said in plain before an ESession begins is archived."""
    assert archived(printed("0200-01"), SaveMode.BODY)
    assert archived(printed("0200-01"))


@pytest.mark.clause("D374-04")
@pytest.mark.parametrize("hint", ["no-store", "no-permanent-store"])
def test_hint_against_storing(hint):
    """A hint against storing counts more than a body and a hint for it; the printed one as well."""
    assert verdict(f"{BODY}{STORE}<{hint} xmlns='urn:xmpp:hints'/>") == (False, "hint")
    assert not archived(printed("0334-01"))


@pytest.mark.clause("D374-04")
def test_hints_in_errors():
    """Hints in an error are not looked at: it is an error."""
    assert verdict(BODY + NO_STORE, "error") == (False, "error")


@pytest.mark.clause("0136-security-store-02", "D374-03")
@pytest.mark.parametrize("mode", [SaveMode.BODY, SaveMode.MESSAGE])
@pytest.mark.parametrize("name", ["Store", "store", "STORE"])
@pytest.mark.parametrize("value", ["false", " False ", "0", "no", "", "true enough"])
def test_store_header(name, value, mode):
    """A Store header that says anything but true denies storing, also against a hint for it."""
    assert verdict(BODY + STORE + store_header(name, value), mode=mode) == (False, "Store header")


@pytest.mark.clause("0136-security-store-02")
@pytest.mark.parametrize(
    "headers",
    [store_header("Store", "true"), store_header("store", " TRUE\n"), store_header("Urgency", "no")],
)
def test_store_header_allows(headers):
    """A Store header that says true, and every other header, changes nothing."""
    assert verdict(BODY + headers) == (True, "content")
    assert verdict(headers, mode=SaveMode.MESSAGE) == (False, "no body")


@pytest.mark.clause("D374-14")
@pytest.mark.parametrize("mark", FORWARD_SECRET)
def test_forward_secret(mark):
    """OTR and OMEMO are not archived, even with a hint to store, unless the operator wants them."""
    for mode in SaveMode.BODY, SaveMode.MESSAGE:
        assert verdict(BODY + mark + STORE, mode=mode) == (False, "forward secret")
        assert verdict(BODY + mark + STORE, mode=mode, rules=Rules(forward_secret=True)) == (True, "content")


@pytest.mark.clause("D374-14")
def test_printed_otr():
    """The printed OTR message is archived only if the operator wants it; so is one without a mark."""
    unmarked = element("<message type='chat'><body>?OTR:AAMC</body></message>")
    for message in printed("0380-01"), unmarked:
        assert not archived(message, SaveMode.BODY)
        assert archived(message, SaveMode.BODY, Rules(forward_secret=True))


def test_otr_in_the_middle():
    """Who only writes about OTR is archived."""
    assert verdict("<body>what is ?OTR</body>") == (True, "content")


def test_omemo_without_body():
    """If the operator wants them, OMEMO messages without body are archived as a whole: not those
    that carry keys alone."""
    keep = Rules(forward_secret=True)
    payload, keys = "<payload>QUJD</payload>", "<header sid='1'/>"
    for inner, kept in ((payload, True), (keys, False)):
        omemo = f"<encrypted xmlns='{AXOLOTL}'>{inner}</encrypted>"
        assert verdict(omemo, mode=SaveMode.MESSAGE, rules=keep)[0] is kept
        assert verdict(omemo, rules=keep) == (False, "no body")


@pytest.mark.clause("D374-14")
def test_openpgp_is_not_forward_secret():
    """What can be decrypted later is archived."""
    assert archived(printed("0374-03"), SaveMode.BODY)


@pytest.mark.parametrize("mark", [NO_STORE, store_header("Store", "false"), ESESSION, *FORWARD_SECRET])
@pytest.mark.parametrize("kind", ["chat", "error", "headline"])
def test_compulsory(mark, kind):
    """Compulsory logging overrules every wish of a sender, and every type."""
    for mode in SaveMode.BODY, SaveMode.MESSAGE:
        assert verdict(BODY + mark, kind, mode=mode, rules=REQUIRED) == (True, "content")


@pytest.mark.parametrize(
    "name", ["0116-03", "0116-10", "0155-01", "0155-02", "0187-07", "0200-07", "0217-03", "0217-08"]
)
def test_compulsory_sessions(name):
    """Under compulsory logging sessions are archived as they are, where whole messages are saved."""
    assert archived(printed(name), rules=REQUIRED)
    assert not archived(printed(name), SaveMode.BODY, REQUIRED)  # there is no body


@pytest.mark.parametrize(
    "inner",
    [
        "<subject>Balcony</subject>",
        "<x xmlns='jabber:x:oob'><url>https://capulet.lit/</url></x>",
        "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='juliet@capulet.lit'/></x>",
        "<unheard-of xmlns='urn:example:new'/>",
    ],
)
def test_compulsory_without_body(inner):
    """Under compulsory logging of whole messages, whatever may say something is content."""
    assert verdict(inner, mode=SaveMode.MESSAGE, rules=REQUIRED) == (True, "content")
    assert verdict(inner, mode=SaveMode.MESSAGE) == (False, "no body")


@pytest.mark.parametrize(
    "inner",
    [
        "",
        EMPTY_BODY,
        "<subject/>",
        ACTIVE,
        "<thread>t1</thread>",
        NO_STORE,
        store_header("Store", "false"),
        "<received xmlns='urn:xmpp:receipts' id='1'/>",
        "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
        "<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>",
        "<x xmlns='http://jabber.org/protocol/muc#user'/>",
        "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
        "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event>",
    ],
)
def test_compulsory_nothing(inner):
    """Even under compulsory logging, what says nothing is not archived."""
    assert verdict(inner, mode=SaveMode.MESSAGE, rules=REQUIRED) == (False, "no body")


@pytest.mark.parametrize(("inner", "reason"), WRAPPERS)
def test_compulsory_wrappers(inner, reason):
    """Even under compulsory logging nothing is archived twice: no wrapper, nothing a room sends back."""
    assert verdict(BODY + inner, mode=SaveMode.MESSAGE, rules=REQUIRED) == (False, reason)
    assert not verdict(BODY, "groupchat", Direction.TO, SaveMode.MESSAGE, REQUIRED)[0]


@given(
    st.sampled_from(["chat", "normal", "error", "headline", "groupchat"]),
    st.sampled_from(Direction),
    st.sampled_from([SaveMode.BODY, SaveMode.MESSAGE]),
    st.lists(
        st.sampled_from(
            [BODY, EMPTY_BODY, ESESSION, STORE, NO_STORE, ACTIVE, WRAPPERS[0][0], *FORWARD_SECRET]
        ),
        max_size=4,
    ),
)
def test_rules_only_add(kind, direction, mode, children):
    """What is archived without a rule is archived with it."""
    inner = "".join(children)
    if verdict(inner, kind, direction, mode)[0]:
        for rules in REQUIRED, Rules(forward_secret=True), Rules(required=True, forward_secret=True):
            assert verdict(inner, kind, direction, mode, rules)[0]

"""Stanza session negotiation: what is sent is what XEP-0155 shows, and what the server's own net understands."""

import pytest
from lxml import etree

from archive_crypt.core.message import Message
from archive_crypt.core.negotiation import Negotiations, Verdict
from archive_crypt.model import Direction, Otr
from archive_crypt.reader import otr, ssn
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.ssn import Form
from tests.kit import element

MAY, NOT = Logging.MAY, Logging.MUSTNOT
ROMEO, JULIET = "romeo@montague.lit/orchard", "juliet@capulet.lit/balcony"
THREAD = "ffd7076498744578d10edabfe7f4a866"
FIELD = "{http://jabber.org/protocol/feature-neg}feature/{jabber:x:data}x/{jabber:x:data}field"


def parsed(written):
    return etree.fromstring(written)


def logging_field(message):
    (field,) = (field for field in message.findall(FIELD) if field.get("var") == "logging")
    return field


@pytest.mark.clause("0136-otr-nego-01", "0136-otr-nego-03", "0136-otr-nego-06")
@pytest.mark.parametrize("mode", list(Otr))
def test_an_offer(mode):
    """An offer has the options in order, the default as its value, and the field is required."""
    offered = otr.offer(mode, switchable=True)
    message = parsed(ssn.write_offer(JULIET, THREAD, offered))
    field = logging_field(message)
    assert field.find("{jabber:x:data}required") is not None
    assert field.findtext("{jabber:x:data}value") == offered[0].value
    options = field.findall("{jabber:x:data}option/{jabber:x:data}value")
    assert [value.text for value in options] == [logging.value for logging in offered]
    assert ssn.read(message) == Form("form", THREAD, accept=True, logging=offered)


def test_nothing_to_offer():
    """Where nothing can be offered, no offer is written."""
    with pytest.raises(ValueError, match="nothing can be offered"):
        ssn.write_offer(JULIET, THREAD, ())


@pytest.mark.clause("0136-otr-nego-01")
@pytest.mark.parametrize("chosen", [MAY, NOT])
def test_an_answer(chosen):
    """An offer is answered with the one value that is chosen."""
    offer = Form("form", THREAD, accept=True, logging=(chosen,))
    message = parsed(ssn.write_answer(ROMEO, offer, Otr.APPROVE, switchable=True))
    assert ssn.read(message) == Form("submit", THREAD, accept=True, logging=(chosen,))


@pytest.mark.clause("0136-otr-nego-09")
@pytest.mark.parametrize(("mode", "offered"), [(Otr.FORBID, NOT), (Otr.REQUIRE, MAY)])
def test_a_refusal(mode, offered):
    """What cannot be met is refused with not-acceptable, which names the field."""
    message = parsed(ssn.write_answer(ROMEO, Form("form", THREAD, logging=(offered,)), mode, switchable=True))
    assert message.get("type") == "error"
    (error,) = message.findall("{jabber:client}error")
    assert error.get("type") == "modify"
    assert etree.QName(error[0]).localname == "not-acceptable"
    assert error[1][0].get("var") == "logging"
    assert ssn.read(message) is None
    assert ssn.is_refusal(message)


@pytest.mark.clause("0136-otr-nego-10")
def test_a_decline():
    """Who requires logging to be forbidden declines an offer that does not speak of it."""
    offer = Form("form", THREAD, accept=True)
    declined = parsed(ssn.write_answer(ROMEO, offer, Otr.REQUIRE, switchable=True))
    assert ssn.read(declined) == Form("submit", THREAD, accept=False)
    accepted = parsed(ssn.write_answer(ROMEO, offer, Otr.PREFER, switchable=True))
    assert ssn.read(accepted) == Form("submit", THREAD, accept=True)


@pytest.mark.clause("0136-otr-nego-11")
def test_a_renegotiation():
    """New terms are offered and answered without 'accept'; what cannot be met leaves all as it was."""
    message = parsed(ssn.write_offer(JULIET, THREAD, (NOT,), renegotiate=True))
    offer = ssn.read(message)
    assert offer == Form("form", THREAD, renegotiate=True, logging=(NOT,))
    agreed = ssn.read(parsed(ssn.write_answer(ROMEO, offer, Otr.APPROVE, switchable=True)))
    assert agreed == Form("submit", THREAD, renegotiate=True, logging=(NOT,))
    rejected = ssn.read(parsed(ssn.write_answer(ROMEO, offer, Otr.FORBID, switchable=True)))
    assert rejected == Form("submit", THREAD, renegotiate=False)
    ended = ssn.read(parsed(ssn.write_end(JULIET, THREAD)))
    assert ended == Form("submit", THREAD, terminate=True)


def test_what_else_is_required():
    """What an offer requires beside logging is named in the error that answers it, but no more than a little."""
    required = "".join(
        f"<field var='{name}'><required/></field>" for name in ("security", "logging", "a&lt;b")
    )
    offer = negotiation(f"{required}<field var='language'><value>it</value></field>")
    assert ssn.other_demands(offer) == ("security", "a<b")
    assert ssn.other_demands(parsed(ssn.write_offer(JULIET, THREAD, (NOT, MAY)))) == ()
    error = parsed(ssn.write_unable(ROMEO, THREAD, ["security", "a<b"]))
    named = [field.get("var") for field in error.iterfind("{*}error/{*}feature/{*}field")]
    assert (error.get("type"), named) == ("error", ["security", "a<b"])
    assert not ssn.is_refusal(error)
    assert len(ssn.write_unable(ROMEO, THREAD, ["x" * 9999] * 9999)) < 2000


def test_a_cancellation():
    """Whoever offered can take it back when it was accepted."""
    assert ssn.read(parsed(ssn.write_cancel(JULIET, THREAD))) == Form("result", THREAD, accept=False)


def test_an_error_that_is_no_refusal():
    """That a contact's client knows nothing of this refuses nothing."""
    unknown = (
        "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    )
    assert not ssn.is_refusal(parsed(f"<message xmlns='jabber:client' type='error'>{unknown}</message>"))


@pytest.mark.clause("0136-otr-notes-02")
@pytest.mark.parametrize(
    "written",
    [
        ssn.write_offer(JULIET, THREAD, (NOT,)),
        ssn.write_answer(ROMEO, Form("form", THREAD, logging=(NOT,)), Otr.PREFER, switchable=True),
        ssn.write_answer(ROMEO, Form("form", THREAD, logging=(NOT,)), Otr.FORBID, switchable=True),
        ssn.write_completion(JULIET, THREAD),
        ssn.write_cancel(JULIET, THREAD),
        ssn.write_end(JULIET, THREAD),
    ],
)
def test_no_trace(written):
    """No message of a negotiation is to be stored, and each says so."""
    assert parsed(written).find("{urn:xmpp:hints}no-store") is not None


@pytest.mark.parametrize("write", [ssn.write_offer, ssn.write_completion])
def test_nothing_more(write):
    """A message that negotiates says no more by its thread, its error, or what accompanies any message."""
    written = write(JULIET, THREAD, (NOT,)) if write is ssn.write_offer else write(JULIET, THREAD)
    besides = (
        "<error xmlns='urn:xmpp:archive' type='modify'/>",
        "<origin-id xmlns='urn:xmpp:sid:0' id='1'/>",
        "<init xmlns='http://www.xmpp.org/extensions/xep-0116.html#ns-init'/>",
        "<delay xmlns='urn:xmpp:delay' stamp='2026-11-21T10:00:00Z'/>",
    )
    assert not ssn.says_more(beside(written, *besides))


@pytest.mark.parametrize(
    "besides",
    [
        "<body>Die!</body>",
        "<subject>Die!</subject>",
        "<x xmlns='jabber:x:oob'><url>https://capulet.lit/feast</url></x>",
        "<openpgp xmlns='urn:xmpp:openpgp:0'>QUJD</openpgp>",
        "<thread xmlns='urn:example:threads'>Die!</thread>",
        "Die!",
    ],
    ids=["body", "subject", "link", "openpgp", "other thread", "text"],
)
def test_something_more(besides):
    """Whatever else is in a message that negotiates may say something."""
    assert ssn.says_more(beside(ssn.write_offer(JULIET, THREAD, (NOT,)), besides))


def beside(written, *besides):
    return parsed(written.replace("</message>", "".join(besides) + "</message>"))


@pytest.mark.clause("0218-2-02")
def test_the_net_below_understands():
    """The server, which reads along, knows from these messages when a thread is off the record, and when
    it is on it again."""
    seen = Negotiations()

    def says(written, direction=Direction.TO):
        return seen.saw(Message(element(written)), direction, "juliet@capulet.lit")

    assert says(ssn.write_offer(JULIET, THREAD, (NOT, MAY))) is Verdict.OFFERED
    offer = Form("form", THREAD, accept=True, logging=(NOT, MAY))
    answer = ssn.write_answer(ROMEO, offer, Otr.CONCEDE, switchable=True)
    assert says(answer, Direction.FROM) is Verdict.NOTHING
    assert says(ssn.write_completion(JULIET, THREAD)) is Verdict.AGREED
    assert seen.forbids("juliet@capulet.lit", THREAD)
    assert says(ssn.write_end(JULIET, THREAD)) is Verdict.ON


def field(name, *values, options=()):
    inner = "".join(f"<value> {value} </value>" for value in values)
    inner += "".join(f"<option><value>{option}</value></option>" for option in options)
    return f"<field var='{name}'>{inner}</field>"


def negotiation(fields, form_type="urn:xmpp:ssn", kind="form"):
    return parsed(
        "<message xmlns='jabber:client'><thread> t </thread><feature xmlns='http://jabber.org/protocol/feature-neg'>"
        f"<x xmlns='jabber:x:data' type='{kind}'>{field('FORM_TYPE', form_type)}{fields}</x></feature></message>"
    )


@pytest.mark.parametrize(
    ("fields", "logging"),
    [
        ("", None),
        (field("logging"), None),
        (field("logging", "may"), (MAY,)),
        (field("logging", "mustnot", options=("may", "mustnot")), (NOT, MAY)),
        (field("logging", options=("may", "mustnot")), (MAY, NOT)),
        (field("logging", "true"), (NOT,)),
        (field("otr", "true"), (NOT,)),
        (field("otr", "0", options=("false", "true")), (MAY, NOT)),
    ],
)
def test_what_others_offer(fields, logging):
    """The default comes first; fields of older versions are understood, and what is not, forbids logging."""
    assert ssn.read(negotiation(fields)).logging == logging


@pytest.mark.parametrize(
    "form_type",
    [
        "urn:xmpp:chatneg",
        "http://jabber.org/protocol/chatneg",
        "http://www.xmpp.org/extensions/xep-0155.html#ns",
    ],
)
def test_older_form_types(form_type):
    """The form types of older versions are recognised."""
    assert ssn.read(negotiation(field("logging", "may"), form_type)).thread == "t"


def test_what_is_no_negotiation():
    """Other forms, errors and what is said in rooms negotiate nothing."""
    assert ssn.read(negotiation(field("logging", "may"), "jabber:iq:register")) is None
    for kind in ("error", "groupchat"):
        message = negotiation(field("logging", "may"))
        message.set("type", kind)
        assert ssn.read(message) is None

"""What the plugins ask is what the server reads, in each dialect."""

import pytest

from archive_crypt.core import stanzas, times
from archive_crypt.core.dialect import DIALECTS, F, T, V
from archive_crypt.core.prefstanzas import SessionRule
from archive_crypt.model import ContactModes, Link, Modes, Otr, PageRequest, SaveMode, Use
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.xep_0136 import requests as plain
from archive_crypt.reader.xep_0241 import requests as sealed
from archive_crypt.reader.xep_0241.stanza import key_name
from tests.kit import LAPTOP, PHONE

START = "2026-11-21T10:00:00Z"
JULIET = Listed("juliet@capulet.lit", times.parse(START), START)
PAGE = PageRequest(max=7, after="<&>", given=True)

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=["V", "T", "F"])


def parsed(stanza, kind):
    """What the server's own reader takes a request for."""
    return stanzas.parse(kind, protocol.parse(str(stanza).encode()))


@every_dialect
@pytest.mark.clause("0136-ns-01", "0136-auto-toggle-11", "0136f-auto-01", "0241-11-01")
def test_auto(dialect):
    """Archiving is turned on and off, encrypted for the keys given; it lasts where it can."""
    auto = parsed(sealed.auto(dialect, [LAPTOP.public(), PHONE.public()], lasting=True), "set")
    assert (auto.save, auto.encrypt, auto.lasting) == (True, True, dialect.scoped)
    assert [key.name for key in auto.keys] == [key.public().name for key in (LAPTOP, PHONE)]
    off = parsed(plain.auto(dialect, save=False), "set")
    assert (off.save, off.encrypt, off.lasting, off.keys) == (False, False, False, ())


@every_dialect
@pytest.mark.clause("0136f-list-01", "0136f-remove-01")
def test_queries(dialect):
    """Which collections are meant is said whole, and the page of them that is wanted."""
    listed = parsed(plain.listing(dialect, Query("a@b/'\"", 0, 1000, exact=True), PAGE), "get")
    assert (listed.with_, listed.start, listed.end, listed.page) == ("a@b/'\"", 0, 1000, PAGE)
    assert listed.exact is dialect.exactmatch
    request = plain.remove_matching(dialect, Query("capulet.lit", 0, 1000), recording=True)
    removed = parsed(request, "set")
    assert (removed.with_, removed.start, removed.end, removed.open) == ("capulet.lit", 0, 1000, True)
    with pytest.raises(CannotAsk, match="until when"):
        plain.remove_matching(dialect, Query("capulet.lit", 0), recording=False)


@every_dialect
@pytest.mark.clause(
    "0136-manage-retrieve-01", "0136f-retrieve-01", "0136f-with-01", "0136-manual-collection-03"
)
def test_one_collection(dialect):
    """A collection is named exactly, by contact and start, and public keys by their names."""
    assert "exactmatch" not in str(plain.retrieve(dialect, JULIET, PAGE))
    assert Listed.named(JULIET.with_, JULIET.start) == JULIET
    retrieve = parsed(plain.retrieve(dialect, JULIET, PAGE, [key_name("<&>")]), "get")
    assert (retrieve.with_, retrieve.start, retrieve.key_names) == (JULIET.with_, JULIET.start, ("<&>",))
    assert retrieve.page == PAGE
    assert parsed(plain.remove(dialect, JULIET), "set").identity
    delete = parsed(sealed.delete(dialect, JULIET, ["a", "b"]), "set")
    assert (delete.with_, delete.start, delete.key_names) == (JULIET.with_, JULIET.start, ("a", "b"))
    keys = parsed(sealed.keys(dialect, ["a", "b"], PAGE), "get")
    assert (keys.key_names, keys.page) == (("a", "b"), PAGE)


def test_a_start_goes_back_as_it_came():
    """However a server writes its times, it gets them back byte by byte."""
    chat = f"<chat xmlns='{F.namespace}' with='a@b' start='2026-11-21T10:00:00.000+00:00'/>"
    collection = protocol.read_chat(protocol.parse(chat.encode())).collection
    assert 'start="2026-11-21T10:00:00.000+00:00"' in str(plain.retrieve(F, collection, PageRequest()))


@pytest.mark.parametrize(("before", "text"), [("", "<before />"), ("7", "<before>7</before>")])
@pytest.mark.clause("rsm-07")
def test_pages_from_the_end(before, text):
    """An empty <before/> asks for the last page, any other for the page before."""
    assert text in str(plain.listing(F, Query(), PageRequest(before=before)))


@every_dialect
@pytest.mark.clause("0136-repl-02", "0136-repl-03", "0136-repl-09", "0136-repl-12")
def test_modified(dialect):
    """0.13 says by <after/> since when, the others by start; what was kept of the last answer goes
    into <after/>."""
    first = plain.modified(dialect, 0, PageRequest(max=50))
    later = plain.modified(dialect, 0, PageRequest(max=50, after="opaque"))
    if dialect is V:
        assert (first["start"], first["rsm"]["after"]) == ("", "1970-01-01T00:00:00Z")
    else:
        assert (first["start"], first["rsm"]["after"]) == ("1970-01-01T00:00:00Z", "")
        assert parsed(first, "get").after == 0
    assert later["rsm"]["after"] == "opaque"
    assert later["rsm"]["max"] == "50"


@every_dialect
@pytest.mark.clause("0136f-default-01", "0136f-session-01", "0136f-session-04")
def test_preferences(dialect):
    """All that can be preferred is said, as far as the dialect knows it."""
    modes = Modes(SaveMode.BODY, Otr.PREFER, 3600)
    items = [
        ContactModes("capulet.lit", modes, True),
        ContactModes("a@b/'\"", Modes(SaveMode.FALSE, Otr.REQUIRE)),
    ]
    rules = [SessionRule("ffd7", SaveMode.FALSE, None)] if dialect is F else []
    request = plain.preferences(dialect, modes, items, rules, {"auto": Use.FORBID, "local": Use.PREFER})
    prefer = parsed(request, "set")
    assert prefer.default == modes
    assert [item.jid for item in prefer.items] == ["capulet.lit", "a@b/'\""]
    assert prefer.items[0].exact is dialect.exactmatch
    assert list(prefer.sessions) == rules
    assert dict(prefer.methods) == {"auto": Use.FORBID, "local": Use.PREFER}
    if dialect is not V:
        assert parsed(plain.remove_items(dialect, ["a@b", "c"]), "set").items == ("a@b", "c")
    assert "timeout" not in str(request)  # how long a session lasts is the server's to say
    if dialect is F:
        assert parsed(plain.remove_sessions(dialect, ["ffd7"]), "set").sessions == ("ffd7",)


@every_dialect
@pytest.mark.clause("0136-impl-link-03", "0136f-subject-01", "0136f-collections-thread-04")
def test_save(dialect):
    """Links are set or removed, a subject is set or emptied, and the thread is kept."""
    start = "2026-11-20T10:00:00Z"
    links = {"previous": Link("a@b", times.parse(start)), "next": None}
    chat = Listed(JULIET.with_, JULIET.start, START, thread="ffd7")
    saved = parsed(plain.save(dialect, chat, [], "", links), "set")
    assert (saved.with_, saved.start, saved.thread, saved.subject) == (JULIET.with_, JULIET.start, "ffd7", "")
    assert saved.links == links
    assert parsed(plain.save(dialect, JULIET, []), "set").subject is None


@pytest.mark.parametrize(
    ("stanza", "name"),
    [(plain.auto(T, save=True), "archive_auto_tmp"), (plain.auto(F, save=True), "archive_auto")],
)
def test_names_of_the_stanzas(stanza, name):
    """Each dialect's element has a name of its own on an iq."""
    assert stanza.plugin_attrib == name

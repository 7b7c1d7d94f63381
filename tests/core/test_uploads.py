"""What ``<save/>`` asks for, in which form it is kept, and how it is shown again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import answers, times, uploads, xmlenc
from archive_crypt.core.dialect import DIALECTS, RSM, F
from archive_crypt.errors import BadRequest, NotAcceptable
from archive_crypt.model import (
    SECOND,
    Collection,
    EncryptedKey,
    Form,
    Link,
    Page,
    PlainItem,
    SealedItem,
    UploadedItem,
)
from tests.core.test_items import TEXTS

START = "1469-07-21T02:56:15Z"
BEGIN = times.parse(START)
DATA, KEY = f"{{{xmlenc.XMLENC}}}EncryptedData", f"{{{xmlenc.XMLENC}}}EncryptedKey"
FORM = "{jabber:x:data}x"


def read(inner="", attributes=f"with='a@b' start='{START}'", dialect=F):
    return chat_read(f"<chat {attributes}>{inner}</chat>", dialect)


def chat_read(chats, dialect=F):
    return uploads.read(dialect, etree.fromstring(f"<save xmlns='{dialect.namespace}'>{chats}</save>"))


def shown(request, dialect=F, keys=None):
    """The page of a collection that holds what was uploaded, and nothing else."""
    items, at = [], request.start
    for number, item in enumerate(request.items):
        at += item.secs * SECOND
        if item.encrypted:
            items.append(UploadedItem(number, item.content, item.key_names))
        else:
            items.append(PlainItem(number, at, item.content))
    collection = Collection(1, request.with_, request.start, 0, request.thread, request.subject)
    links = {name: link for name, link in request.links.items() if link}
    form = request.form if request.form and request.form.content else None
    if keys is None:
        keys = {}
        for key in request.keys:
            keys.setdefault(key.key_name, []).append(key)
    page = Page(items, 0, len(items))
    return etree.fromstring(answers.chat_answer(dialect, collection, page, keys, links, form))


def said(element, name):
    """The texts of the children called `name` of an element, which are in the same namespace."""
    return [child.text or "" for child in element.findall(f"{{{etree.QName(element).namespace}}}{name}")]


BODY = "<body>x</body>"
DATA_XML = "<EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'>{}</EncryptedData>"
KEY_XML = "<EncryptedKey xmlns='http://www.w3.org/2001/04/xmlenc#'>{}</EncryptedKey>"
KEY_INFO = "<KeyInfo xmlns='http://www.w3.org/2000/09/xmldsig#'><KeyName>{}</KeyName></KeyInfo>"


@pytest.mark.parametrize(
    "chats",
    [
        "",
        f"<chat with='a@b' start='{START}'/><chat with='a@b' start='{START}'/>",
        f"<chat xmlns='urn:other' with='a@b' start='{START}'/>",
        f"<chat with='a@b' start='{START}'/><other xmlns='urn:other'/>",
        f"<list with='a@b' start='{START}'/>",
        f"<chat start='{START}'/>",
        "<chat with='a@b'/>",
        f"<chat with='@b' start='{START}'/>",
        "<chat with='a@b' start='yesterday'/>",
        "<chat with='a@b' start='1469-07-21T04:56:15+02:00'/>",
    ],
)
def test_no_chat(chats):
    """Not exactly one <chat/> with its identity, all in one namespace, is a bad request."""
    with pytest.raises(BadRequest):
        chat_read(chats)


@pytest.mark.clause("0136-manual-collection-16")
@pytest.mark.parametrize("item", ["<from/>", "<to secs='0'/>", "<from secs='0'>text alone</from>"])
@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_empty_messages(item, dialect):
    """A message with neither body nor other content is a bad request."""
    with pytest.raises(BadRequest):
        read(item, dialect=dialect)


@pytest.mark.parametrize(
    "item",
    [
        f"<to secs='-1'>{BODY}</to>",
        f"<to secs='1.5'>{BODY}</to>",
        f"<to secs='{2**31}'>{BODY}</to>",
        f"<to secs='\u0661'>{BODY}</to>",
        f"<to utc=''>{BODY}</to>",
        f"<to utc='1469-07-21T04:56:15+02:00'>{BODY}</to>",
        f"<from jid=''>{BODY}</from>",
        f"<from jid='a b@c'>{BODY}</from>",
        "<to><body>x<b/></body></to>",
        "<to><subject>of the archive's namespace</subject></to>",
        "<to><other xmlns=''/></to>",
        "<to><x xmlns='relative'/></to>",
        "<note/>",
        "<note> </note>",
        "<note>text<body/></note>",
        "<note secs='x'>text</note>",
        "<note utc='now'>text</note>",
        "<body>no child of a collection</body>",
        "<x xmlns='urn:other'/>",
        "<to xmlns='jabber:client'><body>x</body></to>",
        "<to xmlns='urn:xmpp:tmp:archive'><body>x</body></to>",
    ],
)
def test_no_items(item):
    """What is no message or note of this namespace, or has no sense in its attributes, is a bad request."""
    with pytest.raises(BadRequest):
        read(item)


@pytest.mark.parametrize(
    "links",
    [
        "<next with='a@b'/>",
        f"<previous start='{START}'/>",
        "<next with='a@b' start='later'/>",
        "<next/><next/>",
        f"<previous/><previous with='a@b' start='{START}'/>",
    ],
)
def test_no_links(links):
    """Half a link, and a second link of a name, are bad requests."""
    with pytest.raises(BadRequest):
        read(links)


@pytest.mark.parametrize(
    "forms",
    [
        "<x xmlns='jabber:x:data'/>",
        "<x xmlns='jabber:x:data' type='cancel'/>",
        "<x xmlns='jabber:x:data' type='submit'/><x xmlns='jabber:x:data' type='form'/>",
        "<x xmlns='jabber:x:data' type='form'><y xmlns='relative'/></x>",
    ],
)
def test_no_forms(forms):
    """A form of another type, a second one, and one without canonical form are bad requests."""
    with pytest.raises(BadRequest):
        read(forms)


LONG = "\u00fc" * 100_000
NAMED = KEY_INFO.format("n" * (uploads.MOST_NAME + 1))


@pytest.mark.parametrize(
    "inner",
    [
        f"<to><body>{LONG}</body></to>",
        f"<note>{LONG}</note>",
        f"<from name='{LONG}'>{BODY}</from>",
        f"<x xmlns='jabber:x:data' type='form'><title>{LONG}</title></x>",
        f"<x xmlns='jabber:x:data' type='form'>{DATA_XML.format(NAMED)}</x>",
        DATA_XML.format(LONG),
        DATA_XML.format(NAMED),
        KEY_XML.format(LONG),
        KEY_XML.format(NAMED),
        KEY_XML.format(f"<CarriedKeyName>{'n' * (uploads.MOST_NAME + 1)}</CarriedKeyName>"),
    ],
)
def test_too_large(inner):
    """A message, note, form, EncryptedData or EncryptedKey, or a key's name, can be too large."""
    with pytest.raises(NotAcceptable):
        read(inner)


@pytest.mark.parametrize("attribute", ["subject", "thread"])
def test_attributes_too_large(attribute):
    """So can a subject or a thread."""
    with pytest.raises(NotAcceptable):
        read(attributes=f"with='a@b' start='{START}' {attribute}='{LONG}'")


def test_a_whole_request():
    """All that an upload can say, as values; what has no meaning here is left out."""
    request = read(
        f"<to secs='0' other='1'>{BODY} text <!-- remark --></to><next with='C@D/e' start='{START}'/><previous/>"
        "<note utc='1469-07-21T03:00:00Z'>n</note><x xmlns='jabber:x:data' type='submit'/>"
        f"<from secs='7' utc='1469-07-21T02:00:00Z' jid='r@m' name='romeo'>{BODY}</from>",
        f"with='A@B/c' start='{START}' thread=' t ' subject='s' version='9' crypt='true'",
    )
    assert (request.with_, request.start, request.thread, request.subject) == ("a@b/c", BEGIN, "t", "s")
    assert request.links == {"next": Link("c@d/e", BEGIN), "previous": None}
    assert request.form == Form("")
    assert [(item.content, item.secs) for item in request.items] == [
        ('<to secs="0"><body>x</body></to>', 0),
        ('<note utc="1469-07-21T03:00:00Z">n</note>', 0),
        (
            '<from secs="7" utc="1469-07-21T02:00:00Z" name="romeo" jid="r@m"><body>x</body></from>',
            7,
        ),
    ]
    assert (request.keys, request.bodies_only) == ((), True)


def test_nothing_said_is_nothing_meant():
    """Without thread, subject, links and form, each is None or empty; an empty thread is none."""
    request = read(attributes=f"with='a@b' start='{START}' thread=''")
    assert (request.thread, request.subject, request.links, request.form) == (None, None, {}, None)
    assert (request.items, request.keys) == ((), ())
    assert read(attributes=f"with='a@b' start='{START}' subject=''").subject == ""


@pytest.mark.parametrize("namespace", [*DIALECTS, "jabber:client"])
def test_bodies(namespace):
    """A body may be in the namespace of the request or that of messages, not of another archive."""
    item = f"<to><body xmlns='{namespace}' xml:lang='it'>x</body></to>"
    if namespace in (F.namespace, "jabber:client"):
        request = read(item)
        assert request.items[0].content == '<to><body xml:lang="it">x</body></to>'
        assert request.bodies_only
    else:
        assert not read(item).bodies_only


def test_other_content():
    """Whatever is no body, be it beside one, makes an upload more than bodies only."""
    assert not read(f"<to>{BODY}<active xmlns='urn:states'/></to>").bodies_only
    assert not read("<to><active xmlns='urn:states'/></to>").bodies_only


SAME = [
    "<x xmlns='urn:x' b='2' a='1'><y z='&quot;'>&#65;</y></x>",
    '<x a="1" xmlns="urn:x"   b="2"><y z=\'"\'>A</y></x>',
    "<x xmlns='urn:x' xmlns:unused='urn:u' a='1' b='2'><y z='&#34;'><![CDATA[A]]></y></x>",
]


@pytest.mark.parametrize("said", SAME)
def test_canonical(said):
    """However an element was written, the same octets are kept."""
    assert read(f"<to>{said}</to>").items[0].content == (
        '<to><x xmlns="urn:x" a="1" b="2"><y z="&quot;">A</y></x></to>'
    )


@pytest.mark.parametrize("dialect", DIALECTS.values())
@pytest.mark.parametrize(
    "foreign",
    [
        "<x xmlns='urn:x'><y xmlns=''/></x>",
        "<p:x xmlns:p='urn:x'><y xmlns=''/></p:x>",
        "<p:x xmlns:p='urn:x'><p:y><z xmlns='' p:a='1'/></p:y></p:x>",
        "<p:x xmlns:p='urn:x'><y xmlns='urn:y'><z xmlns=''/></y><w xmlns=''/></p:x>",
        "<p:x xmlns:p='urn:x'><body/></p:x>",
    ],
)
def test_namespaces_stay(foreign, dialect):
    """In every dialect each part of other content is in the namespace that it was sent in, or in none."""
    expected = [part.tag for part in etree.fromstring(f"<to xmlns='{F.namespace}'>{foreign}</to>").iter()]
    (item,) = shown(read(f"<to>{foreign}</to>"), dialect)[:1]
    assert [part.tag for part in item[0].iter()] == expected[1:]


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_namespaces_of_forms_and_ciphers_stay(dialect):
    """Nor do forms, EncryptedData and EncryptedKeys take any part of theirs from the reply."""
    enc, sig = xmlenc.XMLENC, xmlenc.XMLDSIG
    info = f"<s:KeyInfo xmlns:s='{sig}'><s:KeyName>k</s:KeyName></s:KeyInfo>"
    page = shown(
        read(
            f"<f:x xmlns:f='jabber:x:data' type='submit'><y xmlns=''/></f:x>"
            f"<e:EncryptedData xmlns:e='{enc}'>{info}<y xmlns=''/></e:EncryptedData>"
            f"<e:EncryptedKey xmlns:e='{enc}'><e:CarriedKeyName>k</e:CarriedKeyName><y xmlns=''/></e:EncryptedKey>"
        ),
        dialect,
    )
    assert [child.tag for child in page] == [FORM, DATA, KEY, f"{{{RSM}}}set"]
    assert [child[-1].tag for child in page[:3]] == ["y", "y", "y"]


def carried(attributes="", name="k"):
    """An EncryptedKey for the data key k."""
    return f"<e:EncryptedKey xmlns:e='{xmlenc.XMLENC}' {attributes}><e:CarriedKeyName>{name}</e:CarriedKeyName></e:EncryptedKey>"


def ids(page):
    return [key.get("Id") for key in page.findall(KEY)]


def opened_by(*names):
    """An EncryptedData under data keys of these names."""
    return DATA_XML.format("".join(KEY_INFO.format(name) for name in names))


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "A='&gt;'",
        "A=' Id=&quot;x&quot;'",
        "A=' Id='",
        "MyId='x' xml:lang='x'",
        "xmlns:q='urn:q' q:A='&gt;' q:Id='x'",
    ],
)
def test_ids(attributes):
    """An EncryptedKey without Id is shown with one; one that has an Id, with that: whatever else it has."""
    (made,) = ids(shown(read(opened_by("k") + carried(attributes))))
    assert len(made) == 25
    assert ids(shown(read(opened_by("k") + carried(f"{attributes} Id='one'")))) == ["one"]


def test_prefixes_named_like_the_element():
    """An Id is put where attributes are, whatever the prefix is called."""
    key = carried().replace("e:", "EncryptedKey:").replace("xmlns:e=", "xmlns:EncryptedKey=")
    (made,) = ids(shown(read(opened_by("k") + key)))
    assert len(made) == 25


def test_ids_are_unique():
    """Of different EncryptedKeys with one Id, one keeps it."""
    same = [carried(f"A='{n}' MyId='one' Id='one'") for n in "abc"]
    found = ids(shown(read(opened_by("k") + "".join(same))))
    assert len(set(found)) == 3
    assert "one" in found


def test_ids_of_ours_stay():
    """An uploaded EncryptedKey that took over the Id of ours gets another, and EncryptedData of ours
    tell both by their Ids."""
    ours = EncryptedKey("k", "laptop", f"{xmlenc.XMLENC11}rsa-oaep", b"wrapped")
    collection = Collection(1, "a@b", BEGIN)
    page = Page([SealedItem(0, "k", f"{xmlenc.XMLENC11}aes256-gcm", b"cipher")], 0, 1)

    def shown_with(*keys):
        return etree.fromstring(answers.chat_answer(F, collection, page, {"k": keys}))

    (id_of_ours,) = ids(shown_with(ours))
    (taken_over,) = read(carried(f"Id='{id_of_ours}'")).keys
    found = shown_with(taken_over, ours)
    by_id = {key.get("Id"): key for key in found.findall(KEY)}
    assert len(by_id) == 2
    assert by_id[id_of_ours].findtext(f".//{{{xmlenc.XMLDSIG}}}KeyName") == "laptop"
    methods = found.iter(f"{{{xmlenc.XMLDSIG}}}RetrievalMethod")
    assert {method.get("URI").removeprefix("#") for method in methods} == set(by_id)


# What anybody may send. Texts that XML can carry; names, with all that can stand in an attribute.

LABELS = st.one_of(TEXTS, st.sampled_from(["", "a'b", 'a"b', "a'b\"c", "<&>", " \t\r\n", "\U0001f339"]))
NAMESPACES = st.sampled_from(
    [*DIALECTS, "jabber:client", "jabber:x:data", xmlenc.XMLENC, xmlenc.XMLDSIG, "urn:x", "relative", ""]
)
TAGS = "chat to from note body previous next x EncryptedData EncryptedKey KeyInfo KeyName CarriedKeyName"
IDENTITY = {"with": st.sampled_from(["C@D/e'f", 'a@b/"<&>']), "start": st.just("1469-07-21T02:56:15.25Z")}
GOOD = {
    "secs": st.integers(0, 10**6).map(str),
    "utc": st.just(START),
    "jid": st.just("a@b/\"<&>'"),
    "name": LABELS,
    "Id": LABELS,
    "{urn:x}Id": LABELS,
    "{http://www.w3.org/XML/1998/namespace}lang": LABELS,
}
BAD = dict.fromkeys(("with", "start", "type", "secs", "utc", "jid"), LABELS)


@st.composite
def elements(draw, children=None, namespaces=NAMESPACES, tags=TAGS, attributes=None):
    """Any element, prefixed or not, with some of the attributes and children that it may have."""
    namespace, tag = draw(namespaces), draw(st.sampled_from(tags.split()))
    prefix = draw(st.sampled_from([None, "p", "EncryptedKey"])) if namespace else None
    element = etree.Element(
        f"{{{namespace}}}{tag}" if namespace else tag, nsmap={prefix: namespace} if namespace else None
    )
    if attributes is None:
        attributes = st.fixed_dictionaries({}, optional={**GOOD, **BAD})
    for name, value in draw(attributes).items():
        element.set(name, value)
    element.text = draw(TEXTS)
    if children is not None:
        element.extend(draw(st.lists(children, min_size=1, max_size=3)))
    return element


ANYTHING = st.recursive(elements(), elements, max_leaves=8)


def spoken(dialect):
    """What a collection can hold, most of it as it should be."""
    own, good = st.just(dialect.namespace), st.fixed_dictionaries({}, optional=GOOD)
    some_type = st.fixed_dictionaries({"type": st.sampled_from(["submit", "form"])})
    some_link = st.one_of(st.just({}), st.fixed_dictionaries(IDENTITY))
    content = st.one_of(elements(None, own, "body"), elements(ANYTHING, st.just("urn:x")))
    return st.one_of(
        elements(content, own, "to from", good),
        elements(None, own, "note", good),
        elements(ANYTHING, st.just("jabber:x:data"), "x", some_type),
        elements(ANYTHING, st.just(xmlenc.XMLENC), "EncryptedData EncryptedKey"),
        elements(None, own, "previous next", some_link),
    )


@st.composite
def saves(draw):
    """<save/> in any dialect, with a <chat/> that tells its identity and has any children."""
    dialect = draw(st.sampled_from(list(DIALECTS.values())))
    save = etree.Element(f"{{{dialect.namespace}}}save", nsmap={None: dialect.namespace})
    chat = etree.SubElement(save, f"{{{dialect.namespace}}}chat", {"with": "a@b", "start": START})
    for name, value in draw(
        st.fixed_dictionaries({}, optional={"subject": LABELS, "thread": LABELS})
    ).items():
        chat.set(name, value)
    chat.extend(draw(st.lists(st.one_of(spoken(dialect), spoken(dialect), ANYTHING), max_size=3)))
    return dialect, etree.fromstring(etree.tostring(save))


@given(saves())
def test_read_or_refused(request):
    """Whatever is uploaded is read or refused; what is read is well-formed in every dialect."""
    try:
        found = uploads.read(*request)
    except (BadRequest, NotAcceptable):
        return
    for dialect in DIALECTS.values():
        page = shown(found, dialect)
        kept = [child for child in page if child.tag in _item_tags(dialect)]
        assert [etree.QName(child).localname for child in kept] == [
            etree.QName(etree.fromstring(item.content)).localname for item in found.items
        ]
        assert page.get("subject") == found.subject


def _item_tags(dialect):
    return [DATA, *(f"{{{dialect.namespace}}}{name}" for name in ("to", "from", "note"))]


@given(
    st.sampled_from(list(DIALECTS.values())),
    st.sampled_from(list(DIALECTS.values())),
    st.lists(st.tuples(st.sampled_from(["to", "from"]), LABELS, TEXTS, TEXTS), min_size=1, max_size=4),
    LABELS,
)
def test_texts_come_back(uploaded, asked, messages, subject):
    """What is said, by whomever, comes back letter by letter, in whatever dialect it was uploaded and
    is asked for."""
    chat = etree.Element(f"{{{uploaded.namespace}}}chat", {"with": "a@b", "start": START, "subject": subject})
    for kind, name, text, other in messages:
        item = etree.SubElement(chat, f"{{{uploaded.namespace}}}{kind}", {"secs": "0", "name": name})
        etree.SubElement(item, f"{{{uploaded.namespace}}}body").text = text
        etree.SubElement(item, "{urn:x}x", {"y": name}).text = other
    save = etree.Element(f"{{{uploaded.namespace}}}save")
    save.append(chat)
    page = shown(uploads.read(uploaded, save), asked)
    assert page.get("subject") == subject
    found = page[: len(messages)]
    assert [
        (
            etree.QName(item).localname,
            item.get("name"),
            *said(item, "body"),
            item[1].get("y"),
            item[1].text or "",
        )
        for item in found
    ] == [(kind, name, text, name, other) for kind, name, text, other in messages]

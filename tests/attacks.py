"""What one user may try with another's archive, and the archives it is tried with: for test_isolation."""

import re

from archive_crypt.core import times
from archive_crypt.core.dialect import RSM, F
from archive_crypt.core.xmlenc import XMLDSIG, XMLENC
from tests.kit import LAPTOP, PHONE, key_info

#: What the victim alone knows: no answer to anybody else may hold it.
SECRETS = ["Wherefore", "d2hlcmVmb3Jl", "Capulets", "famousForm", "86417", "nightingale@capulet.lit"]
#: What the attacker has of his own under the very names that the victim uses.
OWN = "Ay me"

PLAIN, CRYPT = "1469-07-21T02:56:15Z", "1469-07-22T02:56:15Z"
CONTACT = "friar@church.lit/cell"
THREAD, DATA_KEY, PUBLIC_KEY = "thread-of-the-victim", "dataKeyOfTheVictim", "publicKeyOfTheVictim"

#: A collection of the victim's, by its start.
NAMED = f"with='{CONTACT}' start='{{}}'"
_NAME = f"<KeyName xmlns='{XMLDSIG}'>{{}}</KeyName>"


def iq(kind, payload, id_="a"):
    return f"<iq type='{kind}' id='{id_}'>{payload}</iq>"


def data(secret, key=DATA_KEY):
    info = f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{key}</KeyName></KeyInfo>"
    cipher = f"<CipherData><CipherValue>{secret}</CipherValue></CipherData>"
    return f"<EncryptedData xmlns='{XMLENC}'>{info}{cipher}</EncryptedData>"


def wrapped(secret, recipient=PUBLIC_KEY):
    info = f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{recipient}</KeyName></KeyInfo>"
    cipher = f"<CipherData><CipherValue>{secret}</CipherValue></CipherData>"
    name = f"<CarriedKeyName>{DATA_KEY}</CarriedKeyName>"
    return f"<EncryptedKey xmlns='{XMLENC}'>{info}{cipher}{name}</EncryptedKey>"


def save(inner, start, more="", namespace=F.namespace):
    chat = f"<chat with='{CONTACT}' start='{start}'{more}>{inner}</chat>"
    return iq("set", f"<save xmlns='{namespace}'>{chat}</save>")


def said(text):
    return f"<from secs='0'><body>{text}</body></from>"


#: What the victim keeps: in clear, encrypted, with links and a form; a removal; preferences; and records.
VICTIMS = [
    save(said("Wherefore art thou Romeo?"), PLAIN, f" subject='Capulets' thread='{THREAD}'"),
    save(
        data("d2hlcmVmb3Jl") + wrapped("d2hlcmVmb3Jl") + f"<previous with='{CONTACT}' start='{PLAIN}'/>"
        f"<x xmlns='jabber:x:data' type='submit'><field var='famousForm'>{data('d2hlcmVmb3Jl')}</field></x>",
        CRYPT,
    ),
    save(said("Wherefore was I born?"), "1469-07-23T02:56:15Z"),
    iq("set", f"<remove xmlns='{F.namespace}' with='{CONTACT}' start='1469-07-23T02:56:15Z'/>"),
    iq(
        "set",
        f"<pref xmlns='{F.namespace}'><default save='message' otr='prefer' expire='86417'/>"
        f"<item jid='diary@capulet.lit' save='false' otr='forbid'/>"
        f"<item jid='nightingale@capulet.lit' save='body' otr='forbid'/><session thread='{THREAD}' save='body'/></pref>",
    ),
    iq(
        "set",
        f"<auto xmlns='{F.namespace}' save='true' encrypt='true' scope='global'>{key_info(LAPTOP, PUBLIC_KEY)}</auto>",
    ),
]
#: What the attacker keeps before, so that asking for it has an answer.
ATTACKERS = [save(said(OWN), PLAIN)]
MESSAGE = f"<message to='{CONTACT}' type='chat'><thread>{THREAD}</thread><body>Wherefore?</body></message>"


def verbs(namespace, ids):
    """(iq type, payload) of everything that can be asked, each in the names of the victim's archive; `ids`: the
    ids that its pages and changes have. What reads comes first."""
    own = f"xmlns='{namespace}'"
    reread = [f"<retrieve {own} {NAMED.format(start)}/>" for start in (CRYPT, "1999-01-01T00:00:00Z")]
    asked = [("get", one) for one in _reads(own, ids)] + [("set", one) for one in _uploads(own)]
    return asked + [("get", one) for one in reread] + [("set", one) for one in _writes(own, ids)]


def _reads(own, ids):
    key, other = _NAME.format(PUBLIC_KEY), _NAME.format(DATA_KEY)
    pages = [f"<set xmlns='{RSM}'>{page}</set>" for page in _pages(ids)]
    reads = [f"<list {own} with='{with_}'/>" for with_ in (CONTACT, "church.lit", "friar@church.lit")]
    reads += [f"<list {own} start='0000-01-01T00:00:00Z' end='9999-01-01T00:00:00Z' exactmatch='true'/>"]
    for page in pages:
        reads += [
            f"<list {own}>{page}</list>",
            f"<modified {own} start='0000-01-01T00:00:00Z'>{page}</modified>",
        ]
        reads += [f"<keys {own}>{key}{page}</keys>"]
        for start in (PLAIN, CRYPT):
            reads += [f"<retrieve {own} {NAMED.format(start)}>{page}</retrieve>"]
    for start in (PLAIN, CRYPT, *ids["starts"]):
        reads += [f"<retrieve {own} {NAMED.format(start)}>{part}</retrieve>" for part in ("", key, other)]
    return reads + [f"<keys {own}>{other}</keys>", f"<modified {own}/>", f"<pref {own}/>"]


def _upload(own, start, inner):
    return f"<save {own}><chat {NAMED.format(start)}>{inner}</chat></save>"


def _uploads(own):
    # EncryptedData under the victim's data key: is its EncryptedKey given with it?
    uploads = [_upload(own, CRYPT, data("bXk="))]
    for name in ("previous", "next"):
        uploads += [_upload(own, "1999-01-01T00:00:00Z", f"<{name} {NAMED.format(CRYPT)}/>")]
    return uploads


def _writes(own, ids):
    key = _NAME.format(PUBLIC_KEY)
    writes = [_upload(own, start, said("Mine")) for start in (PLAIN, *ids["starts"])]
    writes += [f"<pref {own}>{part}</pref>" for part in _preferences()]
    writes += [
        f"<itemremove {own}><item jid='{jid}'/></itemremove>" for jid in ("diary@capulet.lit", CONTACT)
    ]
    writes += [f"<sessionremove {own}><session thread='{THREAD}'/></sessionremove>"]
    for keys in ("", key_info(PHONE, PUBLIC_KEY)):
        writes += [f"<auto {own} save='true' encrypt='true' scope='global'>{keys}</auto>"]
    writes += [f"<auto {own} save='false' scope='{scope}'/>" for scope in ("stream", "global")]
    for start in (PLAIN, CRYPT, *ids["starts"]):
        writes += [
            f"<delete {own} {NAMED.format(start)}>{key}</delete>",
            f"<remove {own} {NAMED.format(start)}/>",
        ]
    writes += [f"<remove {own} with='{with_}'/>" for with_ in (CONTACT, "church.lit")]
    return writes + [
        f"<remove {own} open='true'/>",
        f"<remove {own} end='9999-01-01T00:00:00Z'/>",
        f"<remove {own}/>",
    ]


def _pages(ids):
    """Parts of a ``<set/>`` that name the victim's pages."""
    found = ["<max>0</max>", "<before/>", "<max>5</max><index>1</index>"]
    return found + [f"<{end}>{id_}</{end}>" for id_ in ids["pages"] for end in ("after", "before")]


def _preferences():
    yield "<default save='false' otr='concede'/>"
    yield f"<item jid='diary@capulet.lit' save='body' otr='concede'/><session thread='{THREAD}' save='false'/>"
    yield "<method type='auto' use='forbid'/><method type='local' use='concede'/><method type='manual' use='concede'/>"


def ids_of(kept, with_=CONTACT):
    """What somebody who got to know the victim's ids would use: `kept` are its (start, id, stamp)."""
    pages = ["65536", "0", *(f"{start}:{id_}" for start, id_, _ in kept)]
    return {
        "pages": pages + [times.render(stamp) for _, _, stamp in kept],
        "starts": [times.render(start) for start, _, _ in kept],
    }


#: Ids of changes and pages, and hashes: random, or of the clock.
_MADE = re.compile(r"-?\d{12,}|20\d\d-\d\d-\d\dT[\d:.]+Z|push-[0-9a-f]+|Id=.[\w-]+")


def comparable(xml):
    """An answer without what would differ if the same were done again."""
    return _MADE.sub("*", xml)

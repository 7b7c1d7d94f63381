"""``status`` and ``disable``: whether messages are archived, and how that ends."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core.dialect import F, T, V
from archive_crypt.core.published import NODES, OPENPGP_NODE, REVOCATION_NODE
from archive_crypt.crypto import opening
from archive_crypt.hosts.pep import Pep
from archive_crypt.model import Automatic
from archive_crypt.reader import trust
from archive_crypt.reader.publishing import Publisher
from tests.core import certificates
from tests.core.certificates import JULIET_PRIMARY, JULIET_SUBKEY
from tests.kit import LAPTOP, MORNING, PHONE, key_info
from tests.reader.conftest import DOMAIN, awaited
from tests.reader.test_publishing import announced, openpgp, pubkey, put, revocation

ROMEO, JULIET = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}"


async def status(reader, served):
    done = await reader("status", ROMEO, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    return done.lines[0]


@ensureDeferred
async def test_status(served, reader, key_files):
    """What is offered, what a client that logs in now has archived, how many collections there are."""
    await served.record("one")
    await served.record("two", thread="t", at=MORNING + 3600)
    told = await status(reader, served)
    assert told["offered"]["urn:xmpp:archive"] == ["auto", "encrypt", "manage", "manual", "pref"]
    assert not told["preferences"]["auto"]["save"]
    assert (told["collections"], told["last"]) == (2, {"with": JULIET, "start": "2026-11-21T11:00:00Z"})
    await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    done = await reader("status", ROMEO, at=served)
    lines = [line.split(None, 1) for line in done.out.splitlines()]
    assert ["archiving", "on, encrypted, for every connection"] in lines
    assert ["collections", f"2, the last with {JULIET}, 2026-11-21 11:00:00+00:00"] in lines


@ensureDeferred
async def test_status_of_an_empty_archive(served, reader):
    """Nothing there is nothing there, and no error."""
    told = await status(reader, served)
    assert (told["collections"], told["last"]) == (0, None)


@ensureDeferred
async def test_status_in_clear(served, reader):
    """That the server can read what it archives is written large."""
    await reader("enable", ROMEO, "--plain", at=served)
    assert "on, IN CLEAR, for every connection" in (await reader("status", ROMEO, at=served)).out


@ensureDeferred
async def test_status_without_preferences(serve, reader):
    """Where the server keeps no preferences, nobody can tell, and that is said."""
    served = serve(features=[F.feature("manage")])
    assert (await status(reader, served))["preferences"] is None
    assert "archiving    not told" in (await reader("status", ROMEO, at=served)).out


@ensureDeferred
async def test_disable(served, reader, talk, key_files):
    """From the next login on nothing is archived; what was, stays."""
    await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    await talk("one")
    done = await reader("disable", ROMEO, at=served)
    assert (done.code, done.err) == (0, "")
    assert "are not archived" in done.out
    await talk("two")
    assert not (await status(reader, served))["preferences"]["auto"]["save"]
    read = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert [line["bodies"][0]["text"] for line in read.lines] == ["one"]


@pytest.mark.parametrize("dialect", [V, T])
@ensureDeferred
async def test_disable_where_nothing_lasts(serve, reader, dialect):
    """Where a setting ends with its connection, that is said."""
    offered = [dialect.feature(part) for part in ("auto", "manage")]
    done = await reader("disable", ROMEO, at=serve(features=offered))
    assert done.code == 0
    assert "each client says" in done.out.replace("\n", " ")


@ensureDeferred
async def test_disable_where_archiving_is_compulsory(serve, reader):
    """The operator's decision is told as such; exit code 3."""
    done = await reader("disable", ROMEO, at=serve(automatic=Automatic.REQUIRED_BODY))
    assert (done.code, done.out) == (3, "")
    assert "Its operator decided that" in done.err


@ensureDeferred
async def test_enable_what_is_forbidden(served, reader, key_files):
    """Who prefers that the server archives nothing has to say that he means it."""
    await reader("prefs", "methods", ROMEO, "--auto", "forbid", at=served)
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    assert (done.code, done.out) == (1, "")
    assert "Your preferences forbid automatic archiving" in done.err
    assert not (await status(reader, served))["preferences"]["auto"]["save"]
    await reader("enable", ROMEO, "--key", key_files["laptop"], "--force", at=served)
    assert (await status(reader, served))["preferences"]["auto"]["save"]


# Keys that are published, and nobody knows whose they are.

STRANGER = opening.generate(2048)


@pytest.fixture
def intruded(served, login, key_files):
    """A function: the client of somebody who is in romeo's account, and publishes a key of his own beside
    romeo's."""

    async def start():
        client = await login(served)
        for key in (LAPTOP, STRANGER):
            await awaited(Publisher(client).publish(key.public()))
        return client

    return start


@pytest.mark.clause("0241-2-05", "0241-2-06")
@ensureDeferred
async def test_enable_beside_a_strangers_key(served, reader, talk, intruded, key_files):
    """Where the server would encrypt for a key that was never confirmed, nothing is enabled; unless that is
    meant, and then it is told."""
    await intruded()
    enable = ("enable", ROMEO, "--key", key_files["laptop"], "--json")
    done = await reader(*enable, at=served)
    assert (done.code, done.out) == (4, "")
    assert f"these were never confirmed to be yours: {STRANGER.fingerprint}. " in done.err
    assert f"archive-reader keys retire {ROMEO} {STRANGER.fingerprint}. " in done.err
    assert not (await reader("status", ROMEO, "--json", at=served)).lines[0]["preferences"]["auto"]["save"]
    done = await reader(*enable, "--yes", at=served)
    assert (done.code, done.lines[0]["unconfirmed"]) == (0, [STRANGER.fingerprint])
    assert f"  ! {STRANGER.fingerprint}  published" in (await reader(*enable[:-1], "--yes", at=served)).out
    await talk("O Romeo")  # and so it is: what is warned of is true
    (kept,) = served.kept
    assert {key.recipient for key in kept.keys} == {LAPTOP.fingerprint, STRANGER.fingerprint}


@ensureDeferred
async def test_a_strangers_openpgp_key(serve, reader, login, key_files):
    """Where a server encrypts for OpenPGP keys, too, a stranger's is told by enable, status and keys list; it
    can be retired."""
    client = await login(served := serve(openpgp_keys=True))
    await put(client, f"{OPENPGP_NODE}:{JULIET_PRIMARY}", openpgp(certificates.JULIET))
    enable = ("enable", ROMEO, "--key", key_files["laptop"])
    done = await reader(*enable, at=served)
    assert (done.code, done.out) == (4, "")
    (stranger,) = (await reader("status", ROMEO, "--json", at=served)).lines[0]["unconfirmed"]
    assert f"confirmed to be yours: {stranger} (OpenPGP {JULIET_SUBKEY}). " in done.err
    assert f"archive-reader keys retire {ROMEO} {stranger}. " in done.err
    done = await reader("status", ROMEO, at=served)
    assert done.code == 4
    assert f"! {stranger} (OpenPGP {JULIET_SUBKEY}), NOT confirmed" in done.out
    listed = await reader("keys", "list", ROMEO, "--json", at=served)
    assert [line["fingerprint"] for line in listed.lines if line["suspicious"]] == [stranger]
    done = await reader(*enable, "--yes", at=served)
    assert f"  ! {stranger} (OpenPGP {JULIET_SUBKEY})  published" in done.out
    await served.record("But soft")  # and so it is: what is warned of is true
    assert {key.recipient for key in served.kept[0].keys} == {LAPTOP.fingerprint, JULIET_SUBKEY}
    assert (await reader("keys", "retire", ROMEO, stranger, at=served)).code == 0
    assert (await reader(*enable, at=served)).code == 0


@ensureDeferred
async def test_enable_once_it_is_settled(served, reader, intruded, key_files):
    """What is confirmed or retired is in nobody's way, nor is what was revoked; in clear no key matters."""
    client = await intruded()
    enable = ("enable", ROMEO, "--key", key_files["laptop"], "--json")
    assert (await reader("enable", ROMEO, "--plain", at=served)).code == 0
    await reader("keys", "confirm", STRANGER.fingerprint)
    assert (await reader(*enable, at=served)).lines[0]["unconfirmed"] == []
    trust.withdraw(trust.default_path(), [STRANGER.fingerprint, PHONE.fingerprint])
    assert (await reader(*enable, at=served)).code == 4
    await reader("keys", "retire", ROMEO, STRANGER.fingerprint, at=served)
    await put(client, NODES[1], key_info(PHONE, "lost"))
    await put(client, REVOCATION_NODE, revocation(PHONE))
    assert (await reader(*enable, at=served)).code == 0


@pytest.mark.clause("0241-2-06")
@ensureDeferred
async def test_status_of_a_strangers_key(served, reader, intruded):
    """Status tells each key that is encrypted for and was never confirmed, once, however often it is published."""
    client = await intruded()
    await put(client, NODES[2], key_info(STRANGER, "again"))
    done = await reader("status", ROMEO, "--json", at=served)
    assert (done.code, done.lines[0]["unconfirmed"]) == (4, [STRANGER.fingerprint])
    done = await reader("status", ROMEO, at=served)
    assert done.out.count("NOT confirmed") == 1
    assert f"published    ! {STRANGER.fingerprint}, NOT confirmed to be yours" in done.out
    await reader("keys", "confirm", STRANGER.fingerprint)
    assert (await status(reader, served))["unconfirmed"] == []


@ensureDeferred
async def test_a_strangers_key_for_later(served, reader, login, key_files):
    """A key that was published for a time to come is told at once, by the list of keys too; one that ended is
    not told."""
    client = await login(served)
    await put(
        client, NODES[0], pubkey(STRANGER, begin="2110-01-14T18:44:18Z", end="2111-01-14T18:44:18Z"), "1"
    )
    gone = opening.generate(2048)
    await put(client, NODES[0], pubkey(gone, begin="2010-01-14T18:44:18Z", end="2011-01-14T18:44:18Z"), "2")
    told = (await reader("status", ROMEO, "--json", at=served)).lines[0]
    assert told["unconfirmed"] == [STRANGER.fingerprint]
    listed = await reader("keys", "list", ROMEO, "--json", at=served)
    assert [line["fingerprint"] for line in listed.lines if line["suspicious"]] == [STRANGER.fingerprint]


@ensureDeferred
async def test_where_nobody_publishes_keys(serve, reader, key_files, monkeypatch):
    """Where users have no nodes there is nothing to warn of."""

    def answer(self, asker, iq, account):
        raise StanzaError("service-unavailable")

    monkeypatch.setattr(Pep, "answer", answer)
    served = serve()
    assert (await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)).code == 0
    assert (await status(reader, served))["unconfirmed"] == []


@ensureDeferred
async def test_too_many_keys_to_look_at(served, reader, login):
    """Where more OpenPGP keys are published than can be looked at, status tells the rest, and what to do; as one of
    them may be a stranger's, the exit code is 4."""
    await put(await login(served), OPENPGP_NODE, announced(*(f"{number:040X}" for number in range(101))))
    await served.record("But soft")
    done = await reader("status", ROMEO, "--json", at=served)
    (told,) = done.lines
    assert (done.code, told["unconfirmed"], told["collections"]) == (4, None, 1)
    done = await reader("status", ROMEO, at=served)
    assert (done.code, done.err) == (4, "")
    assert (
        "! not told: 101 OpenPGP keys are published: too many. Remove them with another client." in done.out
    )


@pytest.mark.parametrize("condition", ["internal-server-error", "forbidden"])
@ensureDeferred
async def test_where_published_keys_are_not_told(serve, reader, key_files, monkeypatch, condition):
    """Where the server refuses to say which keys are published, status tells the rest, and that; nothing is
    enabled."""

    def answer(self, asker, iq, account):
        raise StanzaError(condition)

    monkeypatch.setattr(Pep, "answer", answer)
    served = serve()
    told = await status(reader, served)
    assert (told["unconfirmed"], told["collections"]) == (None, 0)
    assert "published    not told" in (await reader("status", ROMEO, at=served)).out
    assert (await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)).code == 3
    assert not (await status(reader, served))["preferences"]["auto"]["save"]

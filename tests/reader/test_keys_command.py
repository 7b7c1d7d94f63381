"""archive-reader keys: against a real server with users' own nodes and a real archive."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core.published import NODES, REVOCATION_NODE
from archive_crypt.crypto import opening
from archive_crypt.hosts.pep import Pep
from archive_crypt.reader import cli, files, keys, trust
from archive_crypt.reader.publishing import Publisher
from tests.kit import LAPTOP, PHONE, key_info
from tests.reader.conftest import DOMAIN, awaited
from tests.reader.test_given import put as put_file
from tests.reader.test_publishing import put as put_item
from tests.reader.test_publishing import revocation

ROMEO = f"romeo@{DOMAIN}"
ONE, TWO = LAPTOP.fingerprint, PHONE.fingerprint


def confirmed():
    return list(trust.load(trust.default_path()))


async def fingerprints(client):
    return [item.fingerprint for item in await awaited(Publisher(client).fetch())]


# list


@ensureDeferred
async def test_list(served, reader, login, environment):
    """Each key is shown once, with all that is known of it: files, confirmation, nodes, the archive."""
    environment.setenv(cli.PASSPHRASE, "secret")
    made = (await reader("keygen", "--bits", 2048, "--json")).lines[0]["fingerprint"]
    client = await login(served)
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await put_item(client, NODES[1], key_info(PHONE, "mine"))
    await put_item(client, REVOCATION_NODE, revocation(PHONE))
    trust.confirm(trust.default_path(), [ONE])
    await served.record("x", keys=[LAPTOP])
    await served.record("x", keys=[LAPTOP], at=1)
    done = await reader("keys", "list", ROMEO, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    by_name = {line["fingerprint"]: line for line in done.lines}
    assert list(by_name) == [made, ONE, TWO]
    path = str(keys.default_path())
    assert by_name[made]["files"] == [path, f"{path}.pub"]
    assert [bool(line["confirmed"]) for line in done.lines] == [True, True, False]
    assert [line["collections"] for line in done.lines] == [0, 2, 0]
    (node,) = by_name[TWO]["published"]
    assert (node["node"], node["name"], node["revoked"], node["usable"]) == (NODES[1], "mine", True, False)
    assert [node["usable"] for node in by_name[ONE]["published"]] == [True]
    shown = await reader("keys", "list", ROMEO, at=served)
    assert f"{TWO}  NOT confirmed\n    published  {NODES[1]} as mine, REVOKED" in shown.out
    assert "    archive    2 collection(s)" in shown.out


@pytest.mark.clause("0241-2-06")
@ensureDeferred
async def test_a_strangers_key(served, reader, login):
    """A key that is published and was never confirmed stands out, by the exit code too, until it is."""
    await awaited(Publisher(await login(served)).publish(LAPTOP.public()))
    done = await reader("keys", "list", ROMEO, at=served)
    assert (done.code, done.out.startswith(f"! {ONE}  NOT confirmed")) == (4, True)
    await reader("keys", "confirm", ONE)
    done = await reader("keys", "list", ROMEO, at=served)
    assert (done.code, done.out.startswith(f"{ONE}  confirmed 20")) == (0, True)


@ensureDeferred
async def test_list_without_a_server(reader, environment):
    """Without a JID nobody is asked, no passphrase either; a file that tells nothing is named."""
    assert "There are no keys" in (await reader("keys", "list")).err
    put_file("clear.pem", LAPTOP)
    sealed = put_file("sealed.pem", PHONE, b"secret")
    done = await reader("keys", "list", "--json")
    assert [line["fingerprint"] for line in done.lines] == [ONE]
    assert done.lines[0]["collections"] is None
    assert f"{sealed} is encrypted, and {sealed}.pub is not there" in done.err


# confirm


@ensureDeferred
async def test_confirm(reader, tmp_path):
    """By fingerprint or by file of either half; twice does no harm; what is neither is refused whole."""
    pair = keys.create(tmp_path / "k.pem", 2048, None)
    done = await reader("keys", "confirm", ONE, pair.public, "--json")
    assert [(line["fingerprint"], line["new"]) for line in done.lines] == [
        (ONE, True),
        (pair.fingerprint, True),
    ]
    assert (
        await reader("keys", "confirm", pair.private)
    ).out == f"confirmed (it was before)  {pair.fingerprint}\n"
    done = await reader("keys", "confirm", TWO, "nothing")
    assert (done.code, done.out) == (1, "")
    assert "'nothing' is neither a file nor a fingerprint" in done.err
    assert sorted(confirmed()) == sorted([ONE, pair.fingerprint])


# publish and retire


@ensureDeferred
async def test_publish(served, reader, login):
    """The confirmed keys of the folder are published, or those given; each once."""
    client = await login(served)
    put_file("key.pem", LAPTOP)
    put_file("phone.pem", PHONE)
    await reader("keys", "confirm", ONE)
    done = await reader("keys", "publish", ROMEO, "--json", at=served)
    assert done.lines == [{"fingerprint": ONE, "new": True}]
    assert await fingerprints(client) == [ONE]
    await reader("keys", "confirm", TWO)
    done = await reader("keys", "publish", ROMEO, at=served)
    assert done.out == f"published (it was before)  {ONE}\npublished  {TWO}\n"


@pytest.mark.clause("0241-2-05")
@ensureDeferred
async def test_only_confirmed_keys_are_published(served, reader, login):
    """A key that is not confirmed is not published, even if it is given by its file."""
    path = put_file("key.pem", LAPTOP)
    for arguments in ((), ("--key", path)):
        done = await reader("keys", "publish", ROMEO, *arguments, at=served)
        assert done.code == 1
        assert "not confirmed to be yours" in done.err
    assert await fingerprints(await login(served)) == []


@ensureDeferred
async def test_retire(served, reader, login):
    """A retired key is neither published nor confirmed; others are; the last one is missed."""
    client = await login(served)
    for key in (LAPTOP, PHONE):
        await awaited(Publisher(client).publish(key.public()))
        trust.confirm(trust.default_path(), [key.fingerprint])
    done = await reader("keys", "retire", ROMEO, ONE, "--json", at=served)
    assert (done.lines, done.err) == ([{"fingerprint": ONE, "published": 1, "confirmed": True}], "")
    assert (await fingerprints(client), confirmed()) == ([TWO], [TWO])
    again = await reader("keys", "retire", ROMEO, ONE, at=served)
    assert again.out == f"neither published nor confirmed  {ONE}\n"
    last = await reader("keys", "retire", ROMEO, put_file("key.pem", PHONE), at=served)
    assert last.out == f"no more published and confirmed  {TWO}\n"
    assert "No key is published any more" in last.err


@pytest.mark.parametrize("condition", ["service-unavailable", "forbidden"])
@ensureDeferred
async def test_retire_where_nothing_can_be_retracted(serve, reader, monkeypatch, condition):
    """A key is confirmed no more also where users have no nodes, or the server refuses; and that is told."""

    def answer(self, asker, iq, account):
        raise StanzaError(condition)

    monkeypatch.setattr(Pep, "answer", answer)
    trust.confirm(trust.default_path(), [ONE, TWO])
    done = await reader("keys", "retire", ROMEO, ONE, at=serve())
    assert confirmed() == [TWO]
    if condition == "forbidden":
        assert done.code == 3
        assert "The key is confirmed no more, but may still be published" in done.err
    else:
        assert (done.code, done.out) == (0, f"no more confirmed  {ONE}\n")
        assert "has no place where users publish keys" in done.err


# print and restore


@ensureDeferred
async def test_print_and_restore(served, reader, environment, tmp_path):
    """What was printed comes back: the same key, under the same passphrase, confirmed, and it reads the archive."""
    environment.setenv(cli.PASSPHRASE, "secret")
    made = (await reader("keygen", "--bits", 2048, "--json")).lines[0]
    await served.record("But soft", keys=[keys.load_private(keys.default_path(), lambda _: b"secret")])
    paper = tmp_path / "paper.txt"
    printed = await reader("keys", "print")
    assert (printed.code, printed.err) == (0, "")
    paper.write_text(printed.out)
    for path in (keys.default_path(), keys.public_path(keys.default_path()), trust.default_path()):
        path.unlink()
    restored = await reader("keys", "restore", paper, "--json")
    assert restored.lines == [{name: made[name] for name in ("private", "public", "fingerprint")}]
    assert confirmed() == [made["fingerprint"]]
    assert keys.default_path().stat().st_mode & 0o777 == 0o600
    done = await reader("read", ROMEO, "--json", at=served)
    assert [line["bodies"][0]["text"] for line in done.lines] == ["But soft"]
    environment.setenv(cli.PASSPHRASE, "wrong")
    done = await reader("keys", "restore", paper, "--out", tmp_path / "other.pem")
    assert (done.code, (tmp_path / "other.pem").exists()) == (1, False)


@ensureDeferred
async def test_print_under_a_passphrase(reader, environment, tmp_path):
    """A key in clear gets a passphrase on paper, unless it is said otherwise; a file is for its owner's eyes."""
    path = put_file("key.pem", LAPTOP)
    environment.setenv(cli.PASSPHRASE, "secret")
    done = await reader("keys", "print", "--out", tmp_path / "paper", "--json")
    assert done.lines == [{"fingerprint": ONE, "out": str(tmp_path / "paper")}]
    assert (tmp_path / "paper").stat().st_mode & 0o777 == 0o600
    assert "-----BEGIN ENCRYPTED PRIVATE KEY-----" in (tmp_path / "paper").read_text()
    assert "secret" not in (tmp_path / "paper").read_text()
    clear = (await reader("keys", "print", "--key", path, "--no-passphrase")).out
    assert "-----BEGIN PRIVATE KEY-----" in clear
    assert "opens WITHOUT a passphrase" in clear


@ensureDeferred
async def test_restore_a_wrong_paper(reader, environment, tmp_path):
    """Lines that were mistyped are named; a fingerprint that does not fit is told; nothing is overwritten."""
    put_file("key.pem", LAPTOP)
    paper, out = tmp_path / "paper", tmp_path / "back.pem"
    text = (await reader("keys", "print", "--no-passphrase")).out
    (line,) = [line for line in text.splitlines() if line.startswith("05/")]
    paper.write_text(text.replace(line, f"{line[:8]}?{line[9:]}"))
    done = await reader("keys", "restore", paper, "--out", out)
    assert (done.code, out.exists()) == (1, False)
    assert "Line 5 of" in done.err
    paper.write_text(text.replace(ONE, TWO))
    done = await reader("keys", "restore", paper, "--out", out)
    assert (done.code, opening.load(out.read_bytes(), None).fingerprint) == (0, ONE)
    assert f"The fingerprint on the paper is another one: {TWO}" in done.err
    for arguments in ((paper, "--out", out), (paper,), (tmp_path / "none",)):
        assert (await reader("keys", "restore", *arguments)).code == 1
    assert (
        "none: No such file"
        in (await reader("keys", "restore", tmp_path / "none", "--out", files.folder() / "n")).err
    )

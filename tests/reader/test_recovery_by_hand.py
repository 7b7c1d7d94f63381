"""docs/recovery.rst: an archive is opened without this program, by the commands that stand there."""

import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import psycopg2
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from archive_crypt import bundle
from archive_crypt.crypto import opening
from archive_crypt.reader import recovery
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN

DOCUMENT = (Path(__file__).parents[2] / "docs" / "recovery.rst").read_text()
ROMEO, NURSE = f"romeo@{DOMAIN}", f"nurse@{DOMAIN}"
PASSPHRASE = "where for"


def blocks(language):
    """The document's blocks in a language, as one text."""
    found = re.findall(rf"^\.\. code:: {language}\n\n((?:    .*\n|\n)+)", DOCUMENT, re.M)
    return "".join(map(dedent, found))


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Debian's, installed if need be and allowed."""
    missing = [name for name in ("openssl", "xmlsec1") if not shutil.which(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "-qq", *words], check=True, capture_output=True)
    elif missing:
        pytest.skip(f"there is no {missing[0]}: apt-get install {' '.join(missing)}")


def by_hand(folder):
    """What the commands make, in a folder with what they take: what was said, line by line. The
    passphrase is typed."""
    done = subprocess.run(
        ["sh", "-e", "-c", blocks("sh")],
        cwd=folder,
        input=f"{PASSPHRASE}\n",
        capture_output=True,
        text=True,
        start_new_session=True,  # without a terminal, openssl reads it from standard input
    )
    assert done.returncode == 0, done.stderr
    return (folder / "said.txt").read_text().splitlines()


def key_file(folder, key=LAPTOP):
    (folder / "key.pem").write_bytes(opening.dump(key, PASSPHRASE.encode()))


SAID = ["But, soft!", "Good nurse", "In clear &amp; all", "It is the east"]


async def record(served):
    """What SAID says, and something for another key."""
    await served.record("But, soft!", "It is the east", keys=(PHONE, LAPTOP))
    await served.record("Good nurse", keys=(LAPTOP,), to=NURSE, at=MORNING + 3600)
    await served.record("Not for the laptop", keys=(PHONE,), at=MORNING + 7200)
    await served.record("In clear &amp; all", keys=(), to=f"mercutio@{DOMAIN}", at=MORNING + 9000)


@pytest.fixture
def exported(served, reader, tmp_path):
    """A function: a folder with the encrypted export of romeo's archive."""

    async def export():
        await record(served)
        out = tmp_path / "out"
        await reader("export", ROMEO, "--format", "xep", "--encrypted", "--out", out, at=served)
        folder = tmp_path / "work"
        folder.mkdir()
        parts = [re.sub(r"<\?xml.*?\?>", "", path.read_text()) for path in sorted(out.iterdir())]
        (folder / "archive.xml").write_text(f"<all>{''.join(parts)}</all>")
        return folder

    return export


@ensureDeferred
async def test_an_encrypted_export(exported):
    """All that was sealed for the key is opened; what is in clear is there; what is for another key stays closed."""
    folder = await exported()
    key_file(folder)
    said = await deferToThread(by_hand, folder)
    assert sorted(said) == SAID
    assert (folder / "open.xml").read_text().count("EncryptedData>") == 1
    assert not [path for path in folder.iterdir() if path.suffix == ".key" or path.name == "clear.pem"]


@ensureDeferred
async def test_from_paper(exported):
    """The key is made again of what was printed, still under its passphrase."""
    folder = await exported()
    paper = recovery.write(opening.dump(LAPTOP, PASSPHRASE.encode()), LAPTOP.public().name)
    (folder / "paper.txt").write_text(paper)
    assert "Good nurse" in await deferToThread(by_hand, folder)


@ensureDeferred
async def test_what_was_altered_stays_closed(exported):
    """A message that somebody changed does not open; the others do."""
    folder = await exported()
    key_file(folder)
    path = folder / "archive.xml"
    whole = path.read_text()
    place = whole.index("CipherValue>", whole.index("EncryptedData")) + 60
    path.write_text(whole[:place] + ("A" if whole[place] != "A" else "B") + whole[place + 1 :])
    said = await deferToThread(by_hand, folder)
    assert len(said) == 3
    assert path.with_name("open.xml").read_text().count("EncryptedData>") == 2


def by_query(cursor):
    """The rows as the document's query has them, with the owner's JID put in as psql does it."""
    cursor.execute(blocks("sql").replace(":'owner'", f"'{ROMEO}'"))
    return [f"{line}\n" for (line,) in cursor]


def by_operator(cursor):
    """What ``archive-crypt export`` writes."""
    return bundle.written(cursor, ROMEO, lambda done, count: None)


@pytest.mark.parametrize("take", [by_query, by_operator])
@ensureDeferred
async def test_from_the_database(dsn, pgsql, serve, tmp_path, take):
    """What the operator exports, and what a query gives where nothing but the rows is left, is opened alike."""
    served = serve(storage=pgsql)
    await record(served)
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        (tmp_path / "archive.xml").write_text("".join(take(cursor)))
    key_file(tmp_path)
    assert sorted(await deferToThread(by_hand, tmp_path)) == SAID

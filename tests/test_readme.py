"""README does what it says."""

import ast
import re
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import psycopg2
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.words.protocols.jabber.jid import JID
from twisted.words.protocols.jabber.xmlstream import Authenticator, XmlStreamFactory
from wokkel.subprotocols import StreamManager

from archive_crypt.config import load
from archive_crypt.model import SECOND, AutoState
from archive_crypt.store.interfaces import SetAuto
from tests.kit import MORNING, element

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text()
ROMEO, JULIET = "romeo@montague.lit/orchard", "juliet@capulet.lit/balcony"


def block(language):
    """The one block of README in this language."""
    (found,) = re.findall(rf"^\.\. code:: {language}\n\n((?:    .*\n|\n)+)", README, re.M)
    return dedent(found)


@ensureDeferred
async def test_ten_lines_embed_it(fresh):
    """The lines for a server of one's own, as they stand, make tables and record what is said."""
    dsn = fresh("ten_lines")
    names = {
        "dsn": dsn,
        "jid": JID(ROMEO),
        "manager": StreamManager(XmlStreamFactory(Authenticator())),
        "sent": element(f"<message from='{ROMEO}' to='{JULIET}' type='chat'><body>one</body></message>"),
        "received": element(f"<message from='{JULIET}' to='{ROMEO}' type='chat'><body>two</body></message>"),
        "when": MORNING * SECOND,
    }
    results = {}
    for statement in ast.parse(block("python")).body:
        code = ast.unparse(statement)
        if not isinstance(statement, ast.Expr):
            exec(code, names)
            continue
        if "stream_opened" in code:  # romeo had asked for it
            auto = AutoState(save=True, namespace="urn:xmpp:archive")
            await names["storage"].apply([SetAuto("romeo@montague.lit", auto)])
        result = eval(code, names)
        results[code] = await result if isinstance(result, Deferred) else result
    assert [result for code, result in results.items() if "archiver.message" in code] == [True, True]
    assert [bool(result) for code, result in results.items() if "offered" in code] == [True]
    (handler,) = names["manager"]
    assert isinstance(handler, names["ArchiveHandler"])
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM item")
        assert cursor.fetchone() == (2,)


def test_the_configuration_is_one(tmp_path):
    """The configuration that README shows can be loaded."""
    path = tmp_path / "archive.toml"
    path.write_text(block("toml"))
    assert load(path).host.users == {"romeo": "a password"}


@pytest.mark.parametrize(
    "path", [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))], ids=lambda path: path.name
)
def test_nothing_is_installed_by_name(path):
    """No document tells to install us from an index, where we are not."""
    assert not re.search(r"pip install [^\n]*'archive_crypt", path.read_text())

"""docs/reader.rst says what the program says: its commands are given to a real server, in their order.

With UPDATE_TUTORIAL=1 in the environment what was said is written there instead.
"""

import json
import os
import re
import shlex
import time
from pathlib import Path
from textwrap import indent

import pytest
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.model import SECOND, Direction
from archive_crypt.reader import cli
from tests.kit import MORNING, element
from tests.reader.conftest import DOMAIN

TUTORIAL = Path(__file__).parents[2] / "docs" / "reader.rst"
#: What happens between the commands, as a comment says; and blocks of commands with what they say.
PARTS = re.compile(
    r"^\.\. story: (?P<story>\w+)\n|^\.\. code:: console\n\n(?P<console>(?:    .*\n|\n)+)", re.M
)
#: Fingerprints are never the same, and today is another day.
VARIABLE = re.compile(r"[A-Za-z0-9+/]{43}=|(?<=mirror is of )[^;]+|(?<=  confirmed )[0-9-]+")
ROMEO = f"romeo@{DOMAIN}"

#: Half an hour before midnight in Italy.
EVENING = MORNING + 45_010
SAID = [
    ("nurse", "from", "I tell you, he that can lay hold of her shall have the chinks."),
    ("juliet", "from", "O Romeo, Romeo! wherefore art thou Romeo?"),
    ("juliet", "from", "What's in a name? that which we call a rose\nBy any other name would smell as sweet"),
    ("juliet", "to", "Call me but love, and I'll be new baptized"),
    (
        "juliet",
        "from",
        "Wilt thou be gone? it is not yet near day:\nIt was the nightingale, and not the lark",
    ),
    ("juliet", "to", "It was the lark, the herald of the morn"),
]


class Story:
    """What happens between the commands."""

    def __init__(self, served):
        self._served = served
        self._kept = {}

    async def balcony(self):
        """They talk until midnight is over, on a stream of romeo's, which has the setting of his account."""
        archiver, jid = self._served.archiver, JID(f"{ROMEO}/orchard")
        await archiver.stream_opened(jid)
        for number, (who, direction, text) in enumerate(SAID):
            message = element(f"<message type='chat'><body>{text}</body></message>")
            message["to" if direction == "to" else "from"] = f"{who}@capulet.example/balcony"
            await archiver.message(jid, Direction(direction), message, (EVENING + 500 * number) * SECOND)
        archiver.stream_closed(jid)

    async def duel(self):
        """A client of romeo's wrote down what was said in an encrypted session."""
        start = "2026-11-22T14:00:00Z"
        said = [("from", "Romeo, thou art a villain."), ("to", "Villain am I none. Farewell.")]
        lines = [{"type": "archive", "version": 1, "owner": ROMEO}]
        lines.append({"type": "collection", "with": "tybalt@capulet.example/street", "told": start})
        lines[1]["start"] = start
        for place, (kind, text) in enumerate(said):
            item = {"kind": kind, "utc": start, "bodies": [{"text": text}]}
            lines.append({"type": "message", "place": place, "at": start, "item": item})
        Path("duel.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    async def deleted(self):
        """Somebody deletes what was said last but one."""
        self._kept = dict(self._items)
        del self._items[sorted(self._items)[-2]]

    async def restored(self):
        """It is there again."""
        self._items.clear()
        self._items.update(self._kept)

    @property
    def _items(self):
        (kept,) = (kept for kept in self._served.kept if kept.shown.with_.startswith("juliet"))
        return kept.items


@pytest.fixture
def home(environment, tmp_path):
    """Romeo's, in Verona; the current directory is in it."""
    (tmp_path / "here").mkdir()
    environment.chdir(tmp_path / "here")
    environment.setenv("HOME", str(tmp_path))
    environment.delenv("XDG_CONFIG_HOME")
    environment.delenv("XDG_DATA_HOME", raising=False)
    environment.setenv(cli.PASSPHRASE, "wherefore")
    environment.setenv("TZ", "Europe/Rome")
    time.tzset()
    return tmp_path


@ensureDeferred
async def test_the_tutorial(served, reader, home):
    """Each command says what the document has it say."""
    story, text = Story(served), TUTORIAL.read_text()
    told, end = [], 0
    for part in PARTS.finditer(text):
        if part["story"]:
            await getattr(story, part["story"])()
            continue
        said = [await say(command, served, reader, home) for command in commands(part["console"])]
        told += [text[end : part.start("console")], indent("\n".join(said), "    ", str.strip) + "\n\n"]
        end = part.end()
    whole = "".join([*told, text[end:]])
    if os.environ.get("UPDATE_TUTORIAL"):
        TUTORIAL.write_text(whole)
    assert VARIABLE.sub("...", whole) == VARIABLE.sub("...", text)


def commands(block):
    """The commands in a block: what stands after a dollar."""
    return [line.strip().removeprefix("$ ") for line in block.splitlines() if line.startswith("    $ ")]


async def say(command, served, reader, home):
    """The command and all that it says, as a document has it."""
    _, *words = (f"{home}{word[1:]}" if word.startswith("~") else word for word in shlex.split(command))
    done = await reader(*words, at=served if ROMEO in words and words[0] != "search" else None)
    lines = (done.out + done.err).replace(str(home), "/home/romeo").splitlines()
    return "\n".join([f"$ {command}", *(line.rstrip() for line in lines)])

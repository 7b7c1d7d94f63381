"""Reads and plays dialogues: what clients send, what they receive, in words one can read aloud.

A file of ``tests/dialogues`` holds several, each begun by a line ``= title``. Then, a line each::

    clauses: 0136-manage-list-01 ...     what of the clause table it proves
    dialects: V T F                      the namespaces it is played in, {ns} in its stanzas
    settings: save=message expire=none   of the archive, if not the defaults
    romeo/orchard comes                  a stream opens (romeo@montague.lit/orchard)
    romeo/orchard asks                   an iq, which the next "is told" answers
    romeo/orchard is told                the answer, compared element by element
    romeo/orchard says                   a message, or any other stanza, it sends
    romeo/orchard hears                  a message delivered to it as if from another server
    romeo/orchard gets                   the next message or push it received otherwise, compared
    romeo/orchard gets nothing           it received no other
    romeo/orchard can read laptop        what the page just told says, opened with that key
    romeo/orchard sees | does not see    features of what it was just told, an answer to disco#info
    romeo/orchard prefers                a <pref/>, set before the operator's policy was what it is
    600 seconds pass
    everything grows 600 seconds older   what is in the database, which has its own clock
    what expired is removed
    romeo/orchard leaves

followed by the stanza, indented. A line that begins with ``V|`` or ``TF|`` is only for these
dialects. In what is told or got, {...} stands for anything, {word} for the same thing each time
it comes; {laptop} in what is asked is the KeyInfo of a public key. Of an error only type and
condition are compared, of an iq or message only those of its own attributes that are written.
A message that bounced is not received.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

from lxml import etree

from archive_crypt.core import prefstanzas
from archive_crypt.core.dialect import F, T, V
from archive_crypt.model import Settings
from tests.kit import LAPTOP, PHONE, key_info, opened
from tests.realclient import parsed
from tests.realhouse import DOMAINS

FOLDER = Path(__file__).parent / "dialogues"
DIALECTS = {"V": V, "T": T, "F": F}
KEYS = {"laptop": LAPTOP, "phone": PHONE}
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
STANZA = ("/iq", "/message")
SETTINGS = get_type_hints(Settings)


@dataclass
class Step:
    """One line of a dialogue that does something, with its stanza."""

    number: int
    text: str
    lines: list[str] = field(default_factory=list)

    def stanza(self, dialect):
        kept = []
        for line in self.lines:
            only, bar, rest = line.strip().partition("|")
            if bar and only and set(only) <= set("VTF"):
                if dialect in only:
                    kept.append(rest.strip())
            else:
                kept.append(line.strip())
        return "\n".join(kept).replace("{ns}", DIALECTS[dialect].namespace)


@dataclass
class Dialogue:
    """One dialogue of a file."""

    file: str
    title: str
    clauses: list[str] = field(default_factory=list)
    dialects: list[str] = field(default_factory=lambda: ["V", "T", "F"])
    settings: dict[str, object] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read_all():
    """Every dialogue there is."""
    return [dialogue for path in sorted(FOLDER.glob("*.txt")) for dialogue in read(path)]


def read(path):
    """The dialogues of one file."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("= "):
            found.append(Dialogue(path.stem, line[2:].strip()))
        elif line.startswith(("clauses:", "dialects:", "settings:")):
            name, _, values = line.partition(":")
            words = values.split()
            setattr(found[-1], name, dict(map(_setting, words)) if name == "settings" else words)
        elif line.strip() and not line.startswith("#"):
            bar = re.match(r"[VTF]+\|", line)
            if line[0] == " " or bar:
                found[-1].steps[-1].lines.append(line)
            else:
                found[-1].steps.append(Step(number, line.strip()))
    return found


def _setting(word):
    name, _, value = word.partition("=")
    kinds = get_args(SETTINGS[name]) or (SETTINGS[name],)
    return name, _value(value, *kinds)


def _value(text, kind, *others):
    if text == "none" and NoneType in others:
        return None
    return {"true": True, "false": False}[text] if kind is bool else kind(text)


class Player:
    """Plays one dialogue in one dialect in a RealHouse."""

    def __init__(self, dialogue, dialect, house):
        self.dialogue, self.dialect, self.house = dialogue, dialect, house
        self.streams, self.told, self.words = {}, {}, {}

    async def play(self):
        await self.house.begins(**self.dialogue.settings)
        try:
            for step in self.dialogue.steps:
                await self._play(step)
        finally:
            await self.house.ends()

    async def _play(self, step):
        passing = re.fullmatch(r"([\d.]+) seconds pass", step.text)
        aging = re.fullmatch(r"everything grows (\d+) seconds older", step.text)
        if passing:
            await self.house.passes(float(passing[1]))
            return
        if aging:
            self.house.ages(int(aging[1]))
            return
        if step.text == "what expired is removed":
            await self.house.expires()
            return
        who, verb = step.text.split(" ", 1)
        verb, _, rest = verb.partition(" ")
        try:
            await getattr(self, f"_{verb}")(who, step, rest)
        except AssertionError as error:
            where = f"{self.dialogue.file}.txt:{step.number}: {step.text} [{self.dialect}]"
            raise AssertionError(f"{where}\n{error}") from None

    async def _comes(self, who, step, rest):
        node, _, resource = who.partition("/")
        self.streams[who] = await self.house.stream(f"{node}@{DOMAINS[node]}/{resource}")

    async def _leaves(self, who, step, rest):
        await self.streams.pop(who).closes()

    async def _asks(self, who, step, rest):
        self.told[who] = await self.streams[who].asks(self._filled(step))

    async def _says(self, who, step, rest):
        await self.streams[who].says(self._filled(step))

    async def _hears(self, who, step, rest):
        await self.streams[who].hears(self._filled(step))

    async def _is(self, who, step, rest):
        self._compare(step, self.told[who])

    async def _gets(self, who, step, rest):
        got = await self.streams[who].gets()
        if rest == "nothing":
            assert got is None, f"it got {etree.tostring(got).decode()}"
        else:
            assert got is not None, "it got nothing"
            self._compare(step, got)

    async def _prefers(self, who, step, rest):
        request = prefstanzas.read_set(DIALECTS[self.dialect], etree.fromstring(self._filled(step)))
        await self.house.prefers(f"{who.partition('/')[0]}@{DOMAINS[who.partition('/')[0]]}", request)

    async def _sees(self, who, step, rest):
        assert set(rest.split()) <= self._features(who), self._features(who)

    async def _does(self, who, step, rest):
        names = rest.replace("{ns}", DIALECTS[self.dialect].namespace).split()[2:]
        assert not set(names) & self._features(who), self._features(who)

    def _features(self, who):
        return {feature.get("var") for feature in self.told[who].iter("{*}feature")}

    async def _can(self, who, step, rest):
        key = KEYS[rest.split()[1]]
        read = [
            f"{i.kind}: {' | '.join(text for _, text in i.bodies)}" for i in opened(self.told[who][0], key)
        ]
        assert read == [line.strip() for line in step.lines], read

    def _filled(self, step):
        """What a client sends."""
        return re.sub(r"\{(\w+)\}", lambda m: self.words.get(m[1], m[0]), self._written(step))

    def _written(self, step):
        text = step.stanza(self.dialect)
        for name, key in KEYS.items():
            text = text.replace(f"{{{name}}}", key_info(key, name))
        return text

    def _compare(self, step, got):
        difference = self._difference(parsed(self._written(step)), got, "")
        assert difference is None, f"{difference}\nin {etree.tostring(got, pretty_print=True).decode()}"

    def _difference(self, expected, answer, path):
        path = f"{path}/{etree.QName(expected).localname}"
        if expected.tag != answer.tag:
            return f"{path}: <{answer.tag}> instead of <{expected.tag}>"
        if etree.QName(expected).localname == "error":
            return self._error_difference(expected, answer, path)
        for name in set(expected.attrib) | (set(answer.attrib) if path not in STANZA else set()):
            if not self._same(expected.get(name), answer.get(name)):
                return f"{path}: {name}={answer.get(name)!r} instead of {expected.get(name)!r}"
        if not self._same((expected.text or "").strip(), (answer.text or "").strip()):
            return f"{path}: {answer.text!r} instead of {expected.text!r}"
        children = list(answer) if expected.get("type") != "error" else list(answer)[-1:]
        if len(expected) != len(children):
            return f"{path}: {len(children)} children instead of {len(expected)}"
        pairs = zip(expected, children, strict=True)
        return next((found for pair in pairs if (found := self._difference(*pair, path))), None)

    def _error_difference(self, expected, answer, path):
        def said(error):
            conditions = [etree.QName(c).localname for c in error if etree.QName(c).namespace == STANZAS]
            return error.get("type"), [name for name in conditions if name != "text"]

        return (
            None if said(expected) == said(answer) else f"{path}: {said(answer)} instead of {said(expected)}"
        )

    def _same(self, expected, value):
        if expected is None or value is None:
            return expected is value
        word = re.fullmatch(r"\{(\w+|\.\.\.)\}", expected)
        if word is None:
            return expected == value
        return word[1] == "..." or self.words.setdefault(word[1], value) == value

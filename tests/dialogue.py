"""Reads and plays dialogues: what clients send, what they receive, in words one can read aloud.

A file of ``tests/dialogues`` holds several, each begun by a line ``= title``. Then, a line each::

    clauses: 0136-manage-list-01 ...     what of the clause table it proves
    dialects: V T F                      the namespaces it is played in, {ns} in its stanzas
    settings: save=message               of the archive, if not the defaults
    romeo/orchard comes                  a stream opens (romeo@montague.lit/orchard)
    romeo/orchard asks                   an iq, which the next "is told" answers
    romeo/orchard is told                the answer, compared element by element
    romeo/orchard says | hears           a message it sends | that is delivered to it
    romeo/orchard can read laptop        what the page just told says, opened with that key
    600 seconds pass
    romeo/orchard leaves

followed by the stanza, indented. A line that begins with ``V|`` or ``TF|`` is only for these
dialects. In what is told, {...} stands for anything, {word} for the same thing each time it
comes; {laptop} in what is asked is the KeyInfo of a public key. Of an error only type and
condition are compared.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from archive_crypt.core.dialect import F, T, V
from archive_crypt.model import SaveMode
from tests.kit import LAPTOP, PHONE, House, key_info, opened

FOLDER = Path(__file__).parent / "dialogues"
DIALECTS = {"V": V, "T": T, "F": F}
DOMAINS = {"romeo": "montague.lit", "juliet": "capulet.lit", "nurse": "capulet.lit"}
KEYS = {"laptop": LAPTOP, "phone": PHONE}
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


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
    return [dialogue for path in sorted(FOLDER.glob("*.txt")) for dialogue in _read(path)]


def _read(path):
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
    values = {"true": True, "false": False} if name != "save" else {}
    if name == "save":
        return name, SaveMode(value)
    return name, values[value] if value in values else int(value)


class Player:
    """Plays one dialogue in one dialect in a house of its own."""

    def __init__(self, dialogue, dialect):
        self.dialogue, self.dialect = dialogue, dialect
        self.house = House(**dialogue.settings)
        self.streams, self.told, self.words = {}, {}, {}

    def play(self):
        for step in self.dialogue.steps:
            try:
                self._play(step)
            except AssertionError as error:
                where = f"{self.dialogue.file}.txt:{step.number}: {step.text} [{self.dialect}]"
                raise AssertionError(f"{where}\n{error}") from None

    def _play(self, step):
        passing = re.fullmatch(r"([\d.]+) seconds pass", step.text)
        if passing:
            self.house.passes(float(passing[1]))
            return
        who, verb = step.text.split(" ", 1)
        verb, _, rest = verb.partition(" ")
        getattr(self, f"_{verb}")(who, step, rest)

    def _comes(self, who, step, rest):
        node, _, resource = who.partition("/")
        self.streams[who] = self.house.stream(f"{node}@{DOMAINS[node]}/{resource}")

    def _leaves(self, who, step, rest):
        self.streams.pop(who).closes()

    def _asks(self, who, step, rest):
        self.told[who] = self.streams[who].ask(self._filled(step))
        assert self.told[who] is not None, "there is no answer"

    def _says(self, who, step, rest):
        self.streams[who].says(self._filled(step))

    def _hears(self, who, step, rest):
        self.streams[who].hears(self._filled(step))

    def _is(self, who, step, rest):
        expected = etree.fromstring(self._filled(step))
        answer = self.told[who]
        difference = self._difference(expected, answer, "")
        assert difference is None, f"{difference}\nin {etree.tostring(answer, pretty_print=True).decode()}"

    def _can(self, who, step, rest):
        key = KEYS[rest.split()[1]]
        read = [
            f"{i.kind}: {' | '.join(text for _, text in i.bodies)}" for i in opened(self.told[who][0], key)
        ]
        assert read == [line.strip() for line in step.lines], read

    def _filled(self, step):
        text = step.stanza(self.dialect)
        for name, key in KEYS.items():
            text = text.replace(f"{{{name}}}", key_info(key, name))
        return (
            re.sub(r"\{(\w+)\}", lambda m: self.words.get(m[1], m[0]), text)
            if "told" not in step.text
            else text
        )

    def _difference(self, expected, answer, path):
        path = f"{path}/{etree.QName(expected).localname}"
        if expected.tag != answer.tag:
            return f"{path}: <{answer.tag}> instead of <{expected.tag}>"
        if etree.QName(expected).localname == "error":
            return self._error_difference(expected, answer, path)
        for name in set(expected.attrib) | (set(answer.attrib) if path != "/iq" else set()):
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

"""Changes to inputs that are XML, so that they stay XML: else nearly all would end in the parser."""

import random

from lxml import etree

from tests.fuzz.targets import parsed
from tests.test_mutations import ATTRIBUTES, HOW, NAMES, NAMESPACES, PARTS, VALUES, Mutation

_HOW = [how for how in HOW if how != "turn"]
#: Elements of an input that still grows: a change can double many times over.
_MOST_PARTS = 300


def mutated(data, most, seed, chew):
    """`data` changed here and there, at most `most` octets; `chew(octets, most)` changes octets at random."""
    dice = random.Random(seed)
    root = parsed(data)
    if root is None or dice.random() < 0.1:
        return chew(data, most)
    for _ in range(dice.choice((1, 1, 2, 3))):
        if sum(1 for _ in root.iter()) > _MOST_PARTS:
            break
        try:
            if dice.random() < 0.3:
                _chewed(root, dice, chew)
            else:
                _mutation(dice).made(root)
        except (ValueError, AttributeError):  # lxml would not say it
            continue
    octets = etree.tostring(root)
    return octets if len(octets) <= most else chew(data, most)


def _mutation(dice):
    how = dice.choice(_HOW)
    return Mutation(
        how=how,
        place=dice.randrange(60),
        other=dice.randrange(20 if how in ("nest", "repeat") else len(PARTS)),
        name=dice.choice(NAMES),
        attribute=dice.choice(ATTRIBUTES),
        namespace=dice.choice(NAMESPACES),
        value=dice.choice(VALUES),
    )


def _chewed(root, dice, chew):
    """One text or attribute, changed at random."""
    part = dice.choice(list(root.iter()))
    name = dice.choice([None, *part.attrib])
    old = (part.text or "") if name is None else part.get(name)
    new = chew(old.encode(), len(old) + 20).decode(errors="ignore")
    if name is None:
        part.text = new
    else:
        part.set(name, new)

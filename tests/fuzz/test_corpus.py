"""What fuzzing begins with and what it found: each input once more; and that a bug would be found."""

import pytest

from archive_crypt.core import attributes, jids, openpgp, published, stanzas
from archive_crypt.hosts.component.feed import Feed
from tests.fuzz import mutator, targets

INPUTS = sorted(targets.CORPUS.glob("*/*"))


@pytest.fixture(autouse=True)
def fresh():
    """A house and a server of this test's own."""
    targets._streams.end(), targets._scenes.end()


@pytest.mark.clause("INT-13")
@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name[:12]}")
def test_nothing_fails(path):
    """Whatever it is, it is understood or refused."""
    targets.TARGETS[path.parent.name](path.read_bytes())


BUGS = [
    ("text", jids, "read"),
    ("certificate", openpgp, "rsa_keys"),
    ("codec", attributes, "boolean"),
    ("keys", published, "read"),
    ("handler", stanzas, "parse"),
    ("component", Feed, "receive"),
]


@pytest.mark.parametrize(("target", "where", "name"), BUGS)
def test_a_bug_is_found(monkeypatch, target, where, name):
    """Whatever fails in another way than by refusing, deep inside too, fails the target."""
    data = next(path for path in INPUTS if path.parent.name == target).read_bytes()
    targets.TARGETS[target](data)

    def fails(*args, **more):
        raise KeyError

    monkeypatch.setattr(where, name, fails)
    with pytest.raises((KeyError, targets.Wrong)):
        targets.TARGETS[target](data)


def test_what_is_changed_stays_xml():
    """Of the changes most leave a document of XML, which is another one."""
    data = next(path for path in INPUTS if path.parent.name == "codec").read_bytes()
    changed = [
        mutator.mutated(data, 20_000, seed, lambda octets, most: octets[::-1][:most]) for seed in range(200)
    ]
    assert sum(targets.parsed(one) is not None for one in changed) > 120
    assert len(set(changed)) > 100

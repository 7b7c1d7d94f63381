"""mod_archive_feed: settings that cannot work are named when the server starts, with what to do."""

from __future__ import annotations

import pytest

from tests.servers.kit import Died, targets

_EJABBERD = "component: archive.capulet.lit"
_PROSODY = 'archive_feed_component = "archive.capulet.lit"'


def of(make):
    return [target for target in targets() if target.name == make]


@pytest.mark.parametrize("target", of("ejabberd"), indirect=True, ids=str)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (f"{_EJABBERD}\n      compulsive: true", "Unknown option: compulsive. Did you mean compulsory?"),
        ("compulsory: true", "Missing required option: component"),
        ("component: capulet.lit", "component must name what archive_crypt connects as"),
    ],
    ids=["unknown", "missing", "virtual host"],
)
def test_ejabberd(target, serve, wrong, said):
    """ejabberd does not start, and says why."""
    with pytest.raises(Died) as died:
        serve(lambda text: text.replace(_EJABBERD, wrong))
    assert said in str(died.value)


@pytest.mark.parametrize("target", of("prosody"), indirect=True, ids=str)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "archive_feed_component must name the Component that archive_crypt connects as"),
        ('archive_feed_component = "capulet.lit"', "archive_feed_component must name the Component"),
        ('archive_feed_component = "elsewhere.lit"', 'Nothing is archived: add Component "elsewhere.lit"'),
    ],
    ids=["missing", "virtual host", "no such component"],
)
def test_prosody(target, serve, wrong, said):
    """Prosody starts without the module, and says why."""
    serve(lambda text: text.replace(_PROSODY, wrong)).wait_for(said)

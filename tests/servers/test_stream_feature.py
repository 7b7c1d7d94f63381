"""The archive in the features of users' streams (XEP-0136 14.1), which mod_archive_feed puts there."""

from __future__ import annotations

from lxml import etree
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, stream_features
from tests.servers.feed import leave

SETTINGS = {
    "ejabberd": ("component: archive.capulet.lit\n", "component: archive.capulet.lit\n      compulsory: true\n"),
    "prosody": ('archive_feed_component = "archive.capulet.lit"', 'archive_feed_component = "archive.capulet.lit"\narchive_feed_compulsory = true'),
}  # fmt: skip


def canonical(xml):
    return etree.tostring(etree.fromstring(xml), method="c14n")


async def archive_features(login, jid, **options):
    """Those of the archive that the server names before and after authentication, two lists."""
    client = await login(jid, **options)
    found = [
        [child for child in features if etree.QName(child).namespace in DIALECTS]
        for features in client.features
    ]
    return [sorted(canonical(etree.tostring(child, with_tail=False)) for child in each) for each in found]


@ensureDeferred
async def test_there(server, component, login):
    """Users who have authenticated are told of the archive in its three namespaces."""
    await component()
    before, after = await archive_features(login, "juliet@capulet.lit")
    assert before == []
    assert after == sorted(map(canonical, stream_features(default_on=False)))


@ensureDeferred
async def test_away(server, component, login):
    """Nobody is told of an archive that is not there."""
    await leave(await component())
    assert await archive_features(login, "juliet@capulet.lit") == [[], []]


@ensureDeferred
async def test_compulsory(target, serve, component, login):
    """Where the operator requires that all be archived, users are told so."""
    server = serve(lambda text: text.replace(*SETTINGS[target.name]))
    await component(at=server)
    _, after = await archive_features(login, "juliet@capulet.lit", at=server)
    assert after == sorted(map(canonical, stream_features(default_on=True)))

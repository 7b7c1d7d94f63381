"""What the stream features say of the archive."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, F, stream_features
from archive_crypt.hosts.seam import ArchivePlug
from tests.hosts.kit import Echo, Recorder


def archive(features):
    """{namespace: names of the children} of each archive <feature/> among the stream features."""
    found = features.findall("{*}feature")
    assert len(found) == len({feature.tag for feature in found})
    return {
        feature.tag[1:].partition("}")[0]: [child.tag.partition("}")[2] for child in feature]
        for feature in found
    }


@pytest.mark.parametrize(
    ("default_on", "expected"),
    [
        pytest.param(False, {**dict.fromkeys(DIALECTS, []), F.namespace: ["optional"]}, id="on request"),
        pytest.param(
            True,
            {**dict.fromkeys(DIALECTS, ["default"]), F.namespace: ["optional", "default"]},
            id="on by default",
        ),
    ],
)
@pytest.mark.clause("0136-streamfeature-01", "0136-streamfeature-03", "0136-security-autoon-01")
@ensureDeferred
async def test_archive_features(serve, connect, default_on, expected):
    """After login, and not before, each archive namespace is announced, with whether it is on by default."""
    plug = ArchivePlug(Recorder(), lambda jid: Echo(), stream_features=stream_features(default_on))
    juliet = await connect(serve(archive=plug))
    assert archive(await juliet.open()) == {}
    features = await juliet.authenticate("juliet")
    assert archive(features) == expected
    assert features.find("{urn:ietf:params:xml:ns:xmpp-bind}bind") is not None
    assert await juliet.bind("balcony") == "juliet@capulet.example/balcony"


@ensureDeferred
async def test_any_feature(serve, connect):
    """A feature arrives with its namespaces, whatever they are."""
    xml = "<a xmlns='urn:a'><b/><c xmlns='urn:c'>&amp;</c></a>"
    plug = ArchivePlug(Recorder(), lambda jid: Echo(), stream_features=[xml])
    juliet = await connect(serve(archive=plug))
    await juliet.open()
    (got,) = (await juliet.authenticate("juliet")).findall("{urn:a}a")
    assert ElementTree.canonicalize(ElementTree.tostring(got)) == ElementTree.canonicalize(
        ElementTree.tostring(ElementTree.fromstring(xml))
    )

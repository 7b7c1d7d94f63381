"""What the three namespaces announce."""

import pytest
from lxml import etree

from archive_crypt.core.dialect import F, T, V, stream_features


@pytest.mark.clause("0136-streamfeature-01", "0136-streamfeature-02", "0136-streamfeature-04")
def test_stream_features():
    """One feature for each namespace: empty before 1.0, with an empty <optional/> since."""
    assert stream_features(default_on=False) == (
        f"<feature xmlns='{V.namespace}'/>",
        f"<feature xmlns='{T.namespace}'/>",
        f"<feature xmlns='{F.namespace}'><optional/></feature>",
    )


@pytest.mark.clause("0136-streamfeature-02", "0136-streamfeature-03", "0136-streamfeature-04")
def test_stream_features_where_all_is_archived():
    """If archiving is on by default, each has an empty <default/> too, last."""
    features = [etree.fromstring(xml) for xml in stream_features(default_on=True)]
    children = [[etree.QName(child).localname for child in feature] for feature in features]
    assert children == [["default"], ["default"], ["optional", "default"]]
    for feature in features:
        for child in feature:
            assert etree.QName(child).namespace == etree.QName(feature).namespace
            assert (child.text, len(child), len(child.attrib)) == (None, 0, 0)

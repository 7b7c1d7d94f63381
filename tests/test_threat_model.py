"""docs/threat-model.rst names tests; each of them is there."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "threat-model.rst"


def test_every_test_that_is_named_exists():
    """What the document says is shown by a test is shown by one that there is."""
    named = re.findall(r"``(tests/[\w/]+\.py)?((?:::\w+)?)``", DOCUMENT.read_text())
    path, seen = "", 0
    for file, name in named:
        path = file or path
        if not (file or name):
            continue
        text = (DOCUMENT.parent.parent / path).read_text()
        assert not name or re.search(rf"^(async )?def {name[2:]}\b", text, re.MULTILINE), f"{path}{name}"
        seen += 1
    assert seen > 20

"""The blocks of code in the documents, for tests to run what operators are told to."""

from __future__ import annotations

import re
from textwrap import dedent

from tests.servers.targets import PROJECT

_BLOCK = re.compile(r"^\.\. code:: (\w+)\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)


def blocks(document: str, language: str) -> list[str]:
    """What stands in docs/`document` as code in that language, without its indentation."""
    text = (PROJECT / "docs" / document).read_text()
    return [dedent(code).rstrip("\n") + "\n" for name, code in _BLOCK.findall(text) if name == language]

"""The demo, but for its story, which CI tells."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from archive_crypt import demo
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.trial import postgres_folder


@pytest.mark.parametrize("failure", [None, demo.Failed("on purpose")])
def test_nothing_is_left(monkeypatch, failure):
    """Whether the demo comes out right or not, neither its folder nor its database is left."""
    folders = []

    async def tell(folder):
        data = postgres_folder(folder / "data")
        with EmbeddedPostgres(data):
            folders.extend([folder, data.resolve()])
        if failure:
            raise failure

    monkeypatch.setattr(demo, "_tell", tell)
    with ThreadPoolExecutor(1) as thread:  # as here a loop runs already
        assert thread.submit(demo.main).result() == (1 if failure else 0)
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)

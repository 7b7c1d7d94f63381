"""A file that nothing may open, to be named where a document type or an entity is."""

import os
from contextlib import contextmanager
from threading import Thread


@contextmanager
def bait(folder):
    """The path of a pipe. Whoever opens it meanwhile gets what is in it, and is found out by that."""
    path = folder / "pipe"
    os.mkfifo(path)
    writer = Thread(target=path.write_bytes, args=(b"untouched",))
    writer.start()
    try:
        yield path
    finally:
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # if that is who the writer waits for
        writer.join()
        left = os.read(pipe, 100)
        os.close(pipe)
    assert left == b"untouched"

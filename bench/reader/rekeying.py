"""All EncryptedKeys of an archive replaced by such for another key, over a real connection."""

from __future__ import annotations

from archive_crypt.crypto import opening
from archive_crypt.reader.rekey import Rekey
from archive_crypt.reader.rewrapping import Holder
from bench.reader.bed import Bed, Used


async def replace(bed: Bed, collections: int) -> Used:
    """What it took; each collection can be opened with the new key, and none with the old one any more."""
    new = opening.generate()
    holders = [Holder(key, (key.public().name,)) for key in (bed.key, new)]
    async with bed.archive() as archive:
        with bed.used() as used:
            outcome = await Rekey(archive, *holders, lambda done, of: None).run()
    assert outcome.empty
    assert outcome.replaced == collections
    return used

"""``archive-reader status``: whether messages are archived, and what is there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from archive_crypt.reader import given, preferring, strangers, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import (
    FeatureNotImplemented,
    NotOffered,
    NotUnderstood,
    Refused,
    RequestFailed,
    ServiceUnavailable,
)
from archive_crypt.reader.failures import DONE, SUSPICIOUS
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.publishing import Item, Publisher
from archive_crypt.reader.show import clean, stamp
from archive_crypt.reader.usage import Command, Doing
from archive_crypt.reader.xep_0136.preferences import Preferences

_HELP = """\
examples:
  archive-reader status romeo@example.org

"archiving" tells what holds for a client that logs in now and says nothing of it. "published" is a key that
the server encrypts for, and that you never said is yours; the exit code is 4 then, as where more keys are
published than can be looked at. See archive-reader keys.
Of OpenPGP keys nobody but the server's operator knows whether it encrypts for them.
"""

_WITHOUT = (NotOffered, FeatureNotImplemented, ServiceUnavailable)


def _begin(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)

    async def status() -> int:
        async with connection:
            archive = Archive(connection)
            offered = await archive.plain.announced()
            wishes = await _preferences(archive)
            last, count = await archive.plain.newest()
            unconfirmed, why = await _unconfirmed(given.publisher(connection))
        told = (*_lines(offered, wishes, last, count), *_strangers(unconfirmed, why))
        lines = (f"{of:12} {what}" for of, what in told)
        given.display(options).tell(
            *lines,
            offered=offered,
            preferences=None if wishes is None else preferring.facts(wishes),
            collections=count,
            last=None if last is None else {"with": last.with_, "start": last.told},
            unconfirmed=None if unconfirmed is None else list(unconfirmed),
        )
        # A stranger's key may be among those that are too many to look at.
        return SUSPICIOUS if unconfirmed or isinstance(why, NotUnderstood) else DONE

    return status()


async def _preferences(archive: Archive) -> Preferences | None:
    try:
        return await archive.preferences()
    except _WITHOUT:
        return None


async def _unconfirmed(publisher: Publisher) -> tuple[Mapping[str, Item] | None, RequestFailed | None]:
    """None: that is not told, and why. The rest is worth telling all the same."""
    try:
        return await strangers.published(publisher), None
    except (Refused, NotUnderstood) as error:
        return None, error


def _lines(
    offered: dict[str, tuple[str, ...]], wishes: Preferences | None, last: Listed | None, count: int | None
) -> Iterator[tuple[str, str]]:
    if not offered:
        yield "archive", "not announced, but there"
    for namespace, parts in offered.items():
        yield "archive", f"{namespace}: {', '.join(parts)}"
    if wishes is None:
        yield "archiving", "not told: the server has no preferences"
    else:
        yield from preferring.lines(wishes)
    number = "an unknown number" if count is None else str(count)
    latest = "" if last is None else f", the last with {last.with_}, {stamp(last.start)}"
    yield "collections", number + latest


def _strangers(
    unconfirmed: Mapping[str, Item] | None, why: RequestFailed | None
) -> Iterator[tuple[str, str]]:
    if isinstance(why, NotUnderstood):
        yield "published", f"! not told: {clean(str(why))}"
    elif why is not None:
        yield "published", "not told: the server refuses to say which keys are"
    for item in (unconfirmed or {}).values():
        is_so = "may be so" if item.openpgp else "is so"
        which = f"! {strangers.told(item)}, NOT confirmed to be yours"
        yield "published", f"{which}: what is encrypted {is_so} for it, too"


COMMAND = Command(
    "status", "show whether your messages are archived, and what is there", _HELP, usage.add_account, _begin
)

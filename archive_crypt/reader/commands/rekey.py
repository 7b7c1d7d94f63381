"""``archive-reader rekey``: another key in place of an old one, in all of the archive."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.errors import UnusableKey
from archive_crypt.reader import given, inventory, publishing, trust, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import CannotAsk, NotOffered, Refused, RequestFailed
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Problem
from archive_crypt.reader.progress import progress
from archive_crypt.reader.publishing import Item, Publisher
from archive_crypt.reader.rekey import Left, Outcome, Rekey, used
from archive_crypt.reader.rewrapping import Holder
from archive_crypt.reader.show import Lines, Terminal, clean, local, note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader keygen --out ~/.config/archive-reader/new.pem
  archive-reader rekey romeo@example.org --old ~/.config/archive-reader/key.pem \\
                                         --new ~/.config/archive-reader/new.pem --retire

The new key is published first. Then, collection by collection, what the old key opens is wrapped for the
new one, fetched and opened with it, and only then deleted for the old one. Stopped at any moment,
it goes on when it is begun again. What has to stay is named, with the reason; the exit code is 4 then.

EncryptedKeys call the old key by its fingerprint, or as it was published. All such names that this computer
ever saw are looked for, and told in the end; --old-name adds one that only another device saw. A name that is
another key's fingerprint is left out, and told: somebody published the old key by it. So are those beyond 32.
If something for the old key is there by such a name, that is told, too; the exit code is 4 then, and
--old-name has it replaced. (What is there by the new key's fingerprint takes another new key.)

--retire ends the use of the old key when nothing is left for it; if it is published, the new one has to be,
too. Keep its file all the same for as long as there are backups. If it was given to archive-reader enable,
enable again with the new one.
"""


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of the old key's EncryptedKeys under all its `names`, but for those that were `left_out`,
    each with the reason; and those of the latter that some still are under."""

    outcome: Outcome
    names: tuple[str, ...]
    left_out: Mapping[str, str]
    found_by: Sequence[str]

    @property
    def empty(self) -> bool:
        """Whether the archive has nothing for the old key any more, by any name that is known."""
        return self.outcome.empty and not self.found_by


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    command.add_argument("--old", type=Path, required=True, metavar="FILE", help="the private key to replace")
    command.add_argument(
        "--new", type=Path, required=True, metavar="FILE", help="the private key in its place"
    )
    command.add_argument(
        "--old-name",
        type=usage.key_name,
        action="append",
        default=[],
        metavar="NAME",
        help="EncryptedKeys may call the old key so, too; may be given again",
    )
    usage.add_passphrase(command)
    command.add_argument(
        "--retire", action="store_true", help="publish and confirm the old key no more, once nothing is left"
    )


def _begin(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)
    new = given.private_key(options, options.new)
    _check_new(new, options.new)
    old = given.private_key(options, options.old)
    if old.fingerprint == new.fingerprint:
        raise Problem("The old key and the new one are the same.")
    display = given.display(options)

    async def rekey() -> int:
        async with connection:
            publisher, archive = given.publisher(connection), Archive(connection)
            items = await _publish(publisher, new)
            done = await _replace(archive, old, new, options.old_name, items)
            retired = options.retire and done.empty and await _retire(publisher, old, new)
            if retired:  # what came until that very moment
                replaced = done.outcome.replaced
                done = await _replace(archive, old, new, options.old_name, items, replaced)
            enabled = await _is_enabled(archive)
        published = not retired and _is_published(old, items or ())
        _tell(display, done, retired, published, enabled)
        return DONE if done.empty and retired == options.retire else SUSPICIOUS

    return rekey()


def _check_new(new: PrivateKey, path: Path) -> None:
    """:raises Problem: nothing may be wrapped for this key."""
    try:
        new.public()
    except UnusableKey as error:
        raise Problem(f"{path}: {error}") from None
    if new.fingerprint not in trust.load(trust.default_path()):
        raise Problem(f"{path} is not confirmed to be yours: archive-reader keys confirm {path}")


async def _publish(publisher: Publisher, new: PrivateKey) -> list[Item] | None:
    """What is published then; None: that is not told."""
    try:
        await publisher.publish(new.public())
    except (NotOffered, Refused) as error:
        note(f"The new key could not be published: {error}. Give it to archive-reader enable.")
    return await _published(publisher)


async def _published(publisher: Publisher) -> list[Item] | None:
    try:
        return await publisher.fetch()
    except NotOffered:
        return []
    except Refused:
        return None


def _called(key: PrivateKey, other: PrivateKey, items: Sequence[Item]) -> tuple[list[str], dict[str, str]]:
    """By which names a key was seen published: those to look for; and the others, each with the reason. What
    is deleted by another's fingerprint would be the other's: who published that was in the account."""
    path = trust.default_path()
    names = trust.names(path)
    others = {*names, *trust.load(path), *inventory.own_files()[0]} - {key.fingerprint, other.fingerprint}
    kept = names.get(key.fingerprint, ())
    told = [item.key.name for item in items if item.fingerprint == key.fingerprint]
    left_out = {}
    for name in (*kept, *told):
        if name == other.fingerprint:
            left_out[name] = "it is the new key's fingerprint"
        elif name in others:
            left_out[name] = "it is another key's fingerprint"
        elif name not in kept and name != key.fingerprint:
            left_out[name] = "it is one too many"
    return [name for name in kept if name not in left_out], left_out


async def _replace(
    archive: Archive,
    old: PrivateKey,
    new: PrivateKey,
    more: Sequence[str],
    items: Sequence[Item] | None,
    before: int = 0,
) -> _Done:
    """Under all names that are known by now, and `more`. `before`: so many collections were done already."""
    seen, left_out = _called(old, new, items or ())
    names = tuple(dict.fromkeys((old.fingerprint, *seen, *more)))
    left_out = {name: why for name, why in left_out.items() if name not in names}
    own, _ = _called(new, old, ())
    holder = Holder(new, tuple(dict.fromkeys((new.fingerprint, *own))))
    try:
        with progress("rekeying") as tell:
            outcome = await Rekey(archive, Holder(old, names), holder, tell).run()
            found_by = await used(archive, old, left_out)
    except CannotAsk:  # nothing was done, and nothing will be
        raise
    except RequestFailed:
        note("What was done is done, and the rest is as it was: give the same command again to go on.")
        raise
    outcome = Outcome(before + outcome.replaced, outcome.left, outcome.empty)
    return _Done(outcome, names, left_out, found_by)


async def _retire(publisher: Publisher, old: PrivateKey, new: PrivateKey) -> bool:
    """Whether the old key was retired: not if it is published, and the new one is not in its place."""
    items = await _published(publisher)
    there = None if items is None else publishing.usable(items)
    if there is None or (old.fingerprint in there and new.fingerprint not in there):
        note("The old key is not retired: the new one is not published in its place, to be encrypted for.")
        return False
    try:
        with suppress(NotOffered):
            await publisher.retract(old.fingerprint)
    except Refused as error:
        note(f"The old key is not retired: {error}.")
        return False
    trust.withdraw(trust.default_path(), [old.fingerprint])
    return True


def _is_published(key: PrivateKey, items: Sequence[Item]) -> bool:
    return any(item.usable and item.fingerprint == key.fingerprint for item in items)


async def _is_enabled(archive: Archive) -> bool:
    """Whether what is archived from now on is encrypted, for keys that nobody but the server knows."""
    with suppress(NotOffered, Refused):
        auto = (await archive.preferences()).auto
        return auto is not None and auto.save and auto.encrypt
    return False


def _tell(display: Terminal | Lines, done: _Done, retired: bool, published: bool, enabled: bool) -> None:
    outcome = done.outcome
    for left in outcome.left:
        _tell_left(display, left)
    lines = [f"{outcome.replaced} collection(s) have the new key in place of the old one."]
    if done.empty:
        lines += ["The archive has nothing for the old key any more."]
    elif outcome.left:
        lines += [f"{len(outcome.left)} collection(s) still have the old key: see above. Keep it."]
    elif outcome.empty:
        lines += ["The archive still has something for the old key, by names that were left out. Keep it."]
    else:
        lines += ["New messages keep coming for the old key: retire it, and give the same command again."]
    lines += ["The old key was looked for by these names; if it was ever published by another: --old-name"]
    lines += [f"    {clean(name)}" for name in done.names]
    for name, why in done.left_out.items():
        there = ", but something for the old key is there by it: --old-name" if name in done.found_by else ""
        lines += [f"  ! {clean(name)}  not by this one: {why}{there}"]
    if published:
        lines += ["The old key is still published, so that what comes will be encrypted for it: --retire"]
    if enabled:
        lines += ["If the old key was given to archive-reader enable, enable again with the new one."]
    display.tell(
        *lines,
        replaced=outcome.replaced,
        left=len(outcome.left),
        empty=done.empty,
        retired=retired,
        published=published,
        names=list(done.names),
        left_out=list(done.left_out),
        found_by=list(done.found_by),
    )


def _tell_left(display: Terminal | Lines, left: Left) -> None:
    where = f"with {clean(left.collection.with_)}, {local(left.collection.start).isoformat(' ')}"
    detail = f" ({clean(left.detail)})" if left.detail else ""
    facts = {"with": left.collection.with_, "start": left.collection.told}
    display.tell(
        f"! {where}: EncryptedKeys for the old key stay: {left.why.text}{detail}",
        **facts,
        reason=left.why.word,
        detail=left.detail,
        suspicious=True,
    )


COMMAND = Command("rekey", "replace a key by another, in all of the archive", _HELP, _arguments, _begin)

"""``archive-reader keys``: which keys are the user's, and what they are used for."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import suppress

from archive_crypt.core import times
from archive_crypt.reader import given, inventory, publishing, trust, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import papers
from archive_crypt.reader.errors import NotOffered, Refused, RequestFailed
from archive_crypt.reader.failures import DONE, SUSPICIOUS
from archive_crypt.reader.inventory import Known
from archive_crypt.reader.publishing import Item, Publisher
from archive_crypt.reader.show import Lines, Terminal, clean, note
from archive_crypt.reader.usage import Command, Doing, Group

_HELP = """\
A key is the user's own if it is confirmed on this computer: nothing is encrypted for any other. What
keygen makes is confirmed by that. Secrets may be kept in the desktop's keyring:
  keyring set archive-reader romeo@example.org                             the password
  keyring set archive-reader ~/.config/archive-reader/key.pem              a passphrase, by the whole path
"""

_LIST_HELP = """\
examples:
  archive-reader keys list
  archive-reader keys list romeo@example.org --json

With a JID also what the account publishes, and in how many collections of its archive there are
EncryptedKeys for each key. A key that is published and not confirmed is marked "!", and the exit
code is 4: the server encrypts for it, and you never said that it is yours. (For RSA keys of OpenPGP it
does so if its operator says so.)
"""

_CONFIRM_HELP = """\
examples:
  archive-reader keys confirm 6Lnw7JwaaI0kpb1Q6eWkFTl8mXj1eC6vXcq1SJC8ZGw=
  archive-reader keys confirm phone.pem.pub

Compare the fingerprint with the one that your other device shows, not with what the server says.
"""

_PUBLISH_HELP = """\
examples:
  archive-reader keys publish romeo@example.org
  archive-reader keys publish romeo@example.org --key phone.pem.pub

From then on the server encrypts for these keys, beside those that archive-reader enable gave it, where
archiving is on. Only confirmed keys are published, and only their public halves.
"""

_RETIRE_HELP = """\
examples:
  archive-reader keys retire romeo@example.org old.pem.pub
  archive-reader keys retire romeo@example.org 6Lnw7JwaaI0kpb1Q6eWkFTl8mXj1eC6vXcq1SJC8ZGw=

The key is published no more, and confirmed no more. Its file stays: what was encrypted for it opens
with nothing else, until archive-reader rekey has put another in its place. The names by which it was
published are kept for that. If it was given to archive-reader enable, enable again without it. The next
archive-reader sync shuts it out of the local mirror. Of OpenPGP the whole certificate goes.
"""


def _list_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command, optional=True)


def _begin_list(options: argparse.Namespace) -> Doing:
    connection = given.connection(options) if options.jid else None
    own, problems = inventory.own_files()
    path = trust.default_path()
    confirmed, names = trust.load(path), trust.names(path)
    display = given.display(options)

    async def list_() -> int:
        if connection is None:
            known = inventory.gather(own, confirmed, names, ())
        else:
            async with connection:
                published = await _published(given.publisher(connection))
                known = inventory.gather(own, confirmed, names, published)
                archive = Archive(connection)
                for key in known:
                    with suppress(NotOffered, Refused):
                        key.collections = await archive.count_keys(key.names)
        for problem in problems:
            note(str(problem))
        if not known:
            note("There are no keys: archive-reader keygen makes one.")
        for key in known:
            _show(display, key)
        return SUSPICIOUS if any(key.suspicious for key in known) else DONE

    return list_()


async def _published(publisher: Publisher) -> Sequence[Item]:
    try:
        return await publisher.fetch()
    except NotOffered as error:
        note(str(error))
        return ()


def _show(display: Terminal | Lines, key: Known) -> None:
    since = f"confirmed {key.confirmed.astimezone():%Y-%m-%d}" if key.confirmed else "NOT confirmed"
    lines = [f"{'! ' if key.suspicious else ''}{key.fingerprint}  {since}"]
    lines += [f"    file       {clean(str(path))}" for path in key.files]
    lines += [f"    published  {_told(item)}" for item in key.published]
    if key.collections is not None:
        lines += [f"    archive    {key.collections} collection(s)"]
    display.tell(
        *lines,
        fingerprint=key.fingerprint,
        confirmed=key.confirmed.isoformat() if key.confirmed else None,
        files=[str(path) for path in key.files],
        published=[_facts(item) for item in key.published],
        collections=key.collections,
        suspicious=key.suspicious,
    )


def _told(item: Item) -> str:
    state = "" if item.usable else ", REVOKED" if item.revoked else ", OUT OF DATE"
    name = "" if item.key.name == item.fingerprint else f" as {clean(item.key.name)}"
    return f"{item.node}{name}{state}"


def _facts(item: Item) -> dict[str, object]:
    bounds = {"begin": item.begin, "end": item.end}
    return {
        "node": item.node,
        "name": item.key.name,
        "usable": item.usable,
        "revoked": item.revoked,
        **{name: None if at is None else times.render(at) for name, at in bounds.items()},
    }


def _confirm_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("key", nargs="+", metavar="KEY", help="a fingerprint, or a file of either half")
    usage.add_passphrase(command)


def _begin_confirm(options: argparse.Namespace) -> Doing:
    fingerprints = [given.fingerprint(options, text) for text in options.key]

    async def confirm() -> int:
        new = trust.confirm(trust.default_path(), fingerprints)
        for one in dict.fromkeys(fingerprints):
            again = "" if one in new else " (it was before)"
            given.display(options).tell(f"confirmed{again}  {one}", fingerprint=one, new=one in new)
        return DONE

    return confirm()


def _publish_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_keys(command, "publish the public half of this key; may be given again")


def _begin_publish(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)
    public = [key for _, key in given.public_keys(options)]

    async def publish() -> int:
        async with connection:
            publisher = given.publisher(connection)
            for key in public:
                new = await publisher.publish(key)
                again = "" if new else " (it was before)"
                given.display(options).tell(f"published{again}  {key.name}", fingerprint=key.name, new=new)
        return DONE

    return publish()


def _retire_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    command.add_argument("key", metavar="KEY", help="a fingerprint, or a file of either half")
    usage.add_passphrase(command)


def _begin_retire(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)
    fingerprint = given.fingerprint(options, options.key)

    async def retire() -> int:
        async with connection:
            publisher = given.publisher(connection)
            # First of all: what is to be trusted does not depend on what the server lets be done.
            withdrawn = trust.withdraw(trust.default_path(), [fingerprint])
            gone, left = await _retract(publisher, fingerprint)
        if gone and not left:
            note("No key is published any more: give one to archive-reader enable, or publish another.")
        what = [*(["published"] if gone else []), *(["confirmed"] if withdrawn else [])]
        told = f"no more {' and '.join(what)}" if what else "neither published nor confirmed"
        given.display(options).tell(
            f"{told}  {fingerprint}", fingerprint=fingerprint, published=len(gone), confirmed=bool(withdrawn)
        )
        return DONE

    return retire()


async def _retract(publisher: Publisher, fingerprint: str) -> tuple[Sequence[Item], Collection[str]]:
    """What is published no more, and the fingerprints of what still is, that any server encrypts for."""
    try:
        gone = await publisher.retract(fingerprint)
        return gone, publishing.usable(await publisher.fetch())
    except NotOffered as error:
        note(str(error))
        return (), ()
    except RequestFailed:
        note("The key is confirmed no more, but may still be published: give the same command again.")
        raise


_COMMANDS = (
    Command("list", "show your keys, and what is known of them", _LIST_HELP, _list_arguments, _begin_list),
    Command("confirm", "say that keys are your own", _CONFIRM_HELP, _confirm_arguments, _begin_confirm),
    Command("publish", "have the server encrypt for keys", _PUBLISH_HELP, _publish_arguments, _begin_publish),
    Command("retire", "publish a key no more", _RETIRE_HELP, _retire_arguments, _begin_retire),
    *papers.COMMANDS,
)


COMMAND = Group("keys", "look after your keys", _HELP, _COMMANDS)

"""Preferences, published keys, and what they mean for what is on its way, kept by every storage: one
promise a test."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import CollectionGone, Withheld
from archive_crypt.model import (
    SECOND,
    AutoState,
    ContactModes,
    Modes,
    Otr,
    Preferences,
    PublishedKey,
    SaveMode,
    SessionMode,
    Use,
)
from archive_crypt.store.interfaces import OwnerState, SetAuto, SetPreferences, SetPublished, Terms
from tests.store.kit import (
    CHAMBER,
    JULIET,
    ROMEO,
    START,
    everything,
    listed,
    modified,
    numbers,
    only,
    opened,
    paged,
    plain,
)

FALSE, BODY, MESSAGE = SaveMode.FALSE, SaveMode.BODY, SaveMode.MESSAGE


def modes(save=BODY, expire=None, otr=Otr.CONCEDE):
    return Modes(save, otr, expire)


def contact(jid=JULIET, save=BODY, expire=None, exact=False):
    return ContactModes(jid, modes(save, expire), exact)


def session(thread="t1", save=FALSE, until=START):
    return SessionMode(thread, save, 3600, until)


def prefer(owner=ROMEO, **more):
    return SetPreferences(owner, **more)


def terms(revision, mode=BODY, with_=CHAMBER, thread=None, default=BODY):
    return Terms(revision, mode, with_, thread, default)


async def kept(storage, owner=ROMEO):
    return (await storage.state(owner)).preferences


@ensureDeferred
async def test_nothing_preferred(storage):
    """Who has an archive but no preferences has those of nobody: revision 0."""
    await storage.apply([opened()])
    assert await storage.state(ROMEO) == OwnerState()


@ensureDeferred
async def test_preferred(storage):
    """What is preferred is the outcome, and kept; all in it comes back as it was."""
    wanted = {
        "default": Modes(MESSAGE, Otr.FORBID, 0),
        "items": (
            ContactModes(JULIET, Modes(FALSE, Otr.REQUIRE), exact=True),
            contact("verona.lit", BODY, 604_800),
        ),
        "sessions": (SessionMode("ü t", BODY, 3600, START, Otr.PREFER), session("t2", MESSAGE, -SECOND)),
        "methods": {"auto": Use.FORBID, "manual": Use.PREFER},
    }
    made = await only(storage, prefer(**wanted))
    assert made.revision == 1
    assert (made.default, dict(made.methods)) == (wanted["default"], wanted["methods"])
    assert (set(made.items), set(made.sessions)) == (set(wanted["items"]), set(wanted["sessions"]))
    assert await kept(storage) == made


@ensureDeferred
async def test_revisions(storage):
    """Each change of preferences is one revision more, two in a batch are two; other changes are none."""
    batch = [prefer(default=modes()), SetAuto(ROMEO, AutoState(True)), prefer(default=modes()), opened()]
    outcomes = await storage.apply(batch)
    assert [outcomes[0].revision, outcomes[2].revision] == [1, 2]
    assert (await only(storage, prefer(items=(contact(),)))).revision == 3
    assert (await kept(storage)).revision == 3


@ensureDeferred
async def test_the_rest_stays(storage):
    """What a change does not name stays; what it names again is replaced."""
    await only(
        storage,
        prefer(default=modes(), items=(contact(), contact("verona.lit")), methods={"auto": Use.PREFER}),
    )
    await only(storage, prefer(sessions=(session("t1"), session("t2"))))
    await only(storage, prefer(items=(contact(save=FALSE),), methods={"local": Use.FORBID}))
    made = await only(storage, prefer(sessions=(session("t1", MESSAGE),), default=modes(FALSE)))
    assert made.default == modes(FALSE)
    assert len(made.items) == len(made.sessions) == 2
    assert set(made.items) == {contact(save=FALSE), contact("verona.lit")}
    assert set(made.sessions) == {session("t1", MESSAGE), session("t2")}
    assert dict(made.methods) == {"auto": Use.PREFER, "local": Use.FORBID}
    assert await kept(storage) == made


@ensureDeferred
async def test_one_item_a_jid(storage):
    """There is one item for a JID, whether it is exact or not; another JID is another item."""
    await only(storage, prefer(items=(contact(JULIET), contact(CHAMBER), contact("capulet.lit"))))
    made = await only(storage, prefer(items=(contact(JULIET, exact=True),)))
    assert len(made.items) == 3
    assert contact(JULIET, exact=True) in made.items


@ensureDeferred
async def test_removed(storage):
    """Items and sessions that are named are removed; to remove what there is not is no error."""
    await only(
        storage, prefer(items=(contact(), contact("verona.lit")), sessions=(session("t1"), session("t2")))
    )
    made = await only(storage, prefer(remove_items=(JULIET, "a@b"), remove_sessions=("t2", "t3")))
    assert (made.items, made.sessions) == ((contact("verona.lit"),), (session("t1"),))
    assert made.revision == 2
    assert await kept(storage) == made


@ensureDeferred
async def test_all_that_outlives_streams(storage):
    """Setting, preferences and published keys are kept beside each other, for each owner his own."""
    keys = (PublishedKey("laptop", b"\x30\x00der", START, START + 1), PublishedKey("phone", b"\x30\x01"))
    auto = AutoState(True, True, "urn:xmpp:archive")
    made = await storage.apply([SetAuto(ROMEO, auto), SetPublished(ROMEO, keys), prefer(default=modes())])
    assert made[:2] == [None, None]
    state = await storage.state(ROMEO)
    assert (state.auto, state.preferences) == (auto, made[2])
    assert set(state.published) == set(keys)
    assert await storage.state(JULIET) == OwnerState()


@ensureDeferred
async def test_published_keys_are_replaced(storage):
    """Published keys take the place of those kept before; there can be none."""
    await only(storage, SetPublished(ROMEO, (PublishedKey("a", b"1"), PublishedKey("b", b"2"))))
    await only(
        storage, SetPublished(ROMEO, (PublishedKey("b", b"3", begin=-SECOND), PublishedKey("c", b"2")))
    )
    assert set((await storage.state(ROMEO)).published) == {
        PublishedKey("b", b"3", begin=-SECOND),
        PublishedKey("c", b"2"),
    }
    await only(storage, SetPublished(ROMEO, ()))
    assert (await storage.state(ROMEO)).published == ()


@ensureDeferred
async def test_preferences_are_no_news(storage):
    """Nothing of this shows in the archive: no collection, no modification."""
    await storage.apply([prefer(default=modes()), SetPublished(ROMEO, (PublishedKey("a", b"1"),))])
    assert ((await listed(storage)).count, (await modified(storage)).count) == (0, 0)


@ensureDeferred
async def test_known_terms(storage):
    """What was decided under the preferences there are is not decided again."""
    await only(storage, prefer(default=modes(FALSE)))
    outcomes = await storage.apply([opened(terms=terms(1)), plain(0, terms=terms(1))])
    assert outcomes == [None, None]
    assert numbers(await paged(storage)) == [0]


@ensureDeferred
async def test_withheld(storage):
    """What is no longer to be saved is not: no collection, no item, no trace."""
    await only(storage, prefer(default=modes()))
    await only(storage, prefer(default=modes(FALSE)))
    before = await everything(storage)
    opening, item, rest = await storage.apply([opened(terms=terms(1)), plain(0, terms=terms(1)), plain(1)])
    assert isinstance(opening, Withheld)
    assert isinstance(item, Withheld | CollectionGone)
    assert isinstance(rest, CollectionGone)
    assert isinstance(await only(storage, plain(2)), CollectionGone)
    assert await everything(storage) == before


@ensureDeferred
async def test_withheld_from_a_collection(storage):
    """What is no longer to be saved is not appended; what was before, and others' messages, are."""
    await storage.apply([opened(), plain(0), opened(2, "nurse@capulet.lit")])
    await only(storage, prefer(items=(contact(save=FALSE),)))
    stamp = (await modified(storage)).items[-1].stamp
    batch = [plain(1, terms=terms(0)), plain(0, "", 2, terms=terms(0, with_="nurse@capulet.lit"))]
    withheld, other = await storage.apply(batch)
    assert isinstance(withheld, Withheld)
    assert other is None
    found = await paged(storage)
    assert (numbers(found), found.collection.version) == ([0], 0)
    assert [one.with_ for one in (await modified(storage, stamp)).items] == ["nurse@capulet.lit"]


@ensureDeferred
async def test_withheld_within_a_batch(storage):
    """What was decided counts at its place in the line: before the change of preferences, and after."""
    batch = [opened(), plain(0, terms=terms(0)), prefer(default=modes(FALSE)), plain(1, terms=terms(0))]
    outcomes = await storage.apply([*batch, plain(2)])
    assert isinstance(outcomes[3], Withheld)
    assert numbers(await paged(storage)) == [0, 2]


@pytest.mark.parametrize(
    ("decided", "now", "made"),
    [
        (BODY, FALSE, False),
        (BODY, BODY, True),
        (BODY, MESSAGE, True),
        (BODY, SaveMode.STREAM, True),
        (MESSAGE, BODY, False),
        (MESSAGE, MESSAGE, True),
        (MESSAGE, FALSE, False),
    ],
)
@ensureDeferred
async def test_how_much_is_withheld(storage, decided, now, made):
    """Under other preferences it is written if as much of it, or more, is to be saved by these."""
    await only(storage, prefer(default=modes(now)))
    outcome = await only(storage, opened(terms=terms(0, decided)))
    assert (outcome is None) == made
    assert (await listed(storage)).count == int(made)


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ({"sessions": (session("t1", BODY),), "items": (contact(save=FALSE),)}, True),
        ({"sessions": (session("t1", FALSE),), "items": (contact(save=BODY),)}, False),
        ({"sessions": (session("t2", FALSE),)}, True),
        ({"items": (contact(CHAMBER, FALSE), contact(JULIET, BODY))}, False),
        ({"items": (contact(CHAMBER, BODY), contact(JULIET, FALSE))}, True),
        ({"items": (contact("capulet.lit", FALSE),)}, False),
        ({"items": (contact(JULIET, FALSE, exact=True),)}, True),
        ({"items": (contact(JULIET, BODY),), "default": modes(FALSE)}, True),
        ({"items": (contact("friar@verona.lit", FALSE),)}, True),
    ],
)
@ensureDeferred
async def test_who_is_meant(storage, wanted, made):
    """It is decided again for the message's own contact and thread: session, then item, then default."""
    await only(storage, prefer(**wanted))
    outcome = await only(storage, opened(terms=terms(0, thread="t1")))
    assert (outcome is None) == made


@pytest.mark.parametrize(("default", "made"), [(BODY, True), (FALSE, False)])
@ensureDeferred
async def test_who_set_no_default(storage, default, made):
    """Of those who set no default, the default in the terms decides; of unknown owners too."""
    outcome = await only(storage, opened(terms=terms(7, default=default)))
    assert (outcome is None) == made
    await only(storage, prefer(methods={"auto": Use.PREFER}, owner=JULIET))
    outcome = await only(storage, opened(owner=JULIET, terms=terms(0, default=default)))
    assert (outcome is None) == made


@ensureDeferred
async def test_without_terms(storage):
    """What has no terms is written, whatever is preferred."""
    await only(storage, prefer(default=modes(FALSE)))
    assert await storage.apply([opened(), plain(0)]) == [None, None]


@ensureDeferred
async def test_others_preferences(storage):
    """One owner's preferences withhold nothing of another."""
    await only(storage, prefer(default=modes(FALSE)))
    assert await only(storage, opened(owner=JULIET, terms=terms(0))) is None


@ensureDeferred
async def test_again(storage):
    """Preferences applied again are one revision, not two; what was withheld is so again."""
    batch = [prefer(default=modes(FALSE)), opened(terms=terms(0)), opened(2, JULIET)]
    outcomes = await storage.apply(batch)
    again = await storage.apply(batch, again=True)
    assert again[0] == outcomes[0] == await kept(storage)
    assert isinstance(again[1], Withheld)
    assert [shown.id for shown in (await listed(storage)).items] == [2]


@ensureDeferred
async def test_expiring(storage):
    """Found are those who prefer that anything expires, in order, with their preferences."""
    wanted = {
        "c@verona.lit": {"default": modes(expire=5)},
        "a@verona.lit": {"items": (contact(), contact("verona.lit", expire=0))},
        "b@verona.lit": {"default": modes(), "items": (contact(),), "sessions": (session(),)},
    }
    made = await storage.apply([prefer(owner, **more) for owner, more in wanted.items()])
    await storage.apply([opened(owner="d@verona.lit")])
    expected = [("a@verona.lit", made[1]), ("c@verona.lit", made[0])]
    assert [tuple(found) for found in await storage.expiring("", 10, everyone=False)] == expected


@ensureDeferred
async def test_expiring_everyone(storage):
    """Everyone who has an archive is found if everyone is asked for, preferences or not."""
    (made,) = await storage.apply([prefer("b@verona.lit", default=modes())])
    await storage.apply([opened(owner="c@verona.lit"), opened(owner="a@verona.lit")])
    assert [tuple(found) for found in await storage.expiring("", 10, everyone=True)] == [
        ("a@verona.lit", Preferences()),
        ("b@verona.lit", made),
        ("c@verona.lit", Preferences()),
    ]


@pytest.mark.parametrize("everyone", [False, True])
@ensureDeferred
async def test_expiring_in_parts(storage, everyone):
    """All are found in parts, each beginning above the last one's end; then none."""
    owners = [f"u{n}@verona.lit" for n in range(1, 6)]
    await storage.apply([prefer(owner, default=modes(expire=1)) for owner in reversed(owners)])
    parts, after = [], ""
    while part := [owner for owner, _ in await storage.expiring(after, 2, everyone)]:
        parts.append(part)
        after = part[-1]
    assert parts == [owners[:2], owners[2:4], owners[4:]]


@ensureDeferred
async def test_expiring_no_longer(storage):
    """Who no longer prefers that anything expires is not found."""
    await only(storage, prefer(items=(contact(expire=5),), default=modes(expire=5)))
    await only(storage, prefer(remove_items=(JULIET,)))
    assert len(await storage.expiring("", 10, everyone=False)) == 1
    await only(storage, prefer(default=modes()))
    assert list(await storage.expiring("", 10, everyone=False)) == []

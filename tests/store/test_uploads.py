"""Uploads, kept by every storage (XEP-0136 5.3 to 5.8, XEP-0241 2): one promise a test."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core import times
from archive_crypt.errors import NoSuchCollection, NotAcceptable
from archive_crypt.model import SECOND, Collection, Form, Link, PlainItem, SealedItem, UploadedItem, Window
from archive_crypt.store.interfaces import FIRST_UPLOAD, MOST_WRAPPED, DeleteKeys, Reseal, Upload
from tests.store.kit import (
    CHAMBER,
    GCM,
    JULIET,
    ROMEO,
    START,
    carried,
    data,
    everything,
    listed,
    modified,
    numbers,
    only,
    opened,
    paged,
    plain,
    said,
    save,
    sealed,
    sealed_open,
    texts,
    wrapped,
)

THERE, ELSEWHERE = Link("nurse@capulet.lit", START - 5), Link("friar@verona.lit", START + 5)
FORM = Form("<x><field>task</field></x>")
SECRET_FORM = Form("<x><EncryptedData/></x>", ("k1",))
NO_FORM = Form("")


@pytest.mark.clause("0136f-version-01")
@ensureDeferred
async def test_new_collection(storage):
    """An upload makes a collection of exactly its identity, version 0: its outcome, and listed."""
    made = await only(storage, save(7, thread="t1", subject="She speaks!", items=(said("a"), said("b"))))
    assert made == Collection(7, CHAMBER, START, 0, "t1", "She speaks!", crypt=False)
    assert list((await listed(storage)).items) == [made]
    assert (await paged(storage)).collection == made


@ensureDeferred
async def test_items_come_back(storage):
    """Uploaded messages come back as they were uploaded, in order, numbered from FIRST_UPLOAD."""
    items = (said("a", 3), said("ü\U0001f600\\x00", 5), Upload("<note>remember</note>"))
    await only(storage, save(items=items))
    found = await paged(storage)
    assert texts(found) == [item.content for item in items]
    assert numbers(found) == [FIRST_UPLOAD, FIRST_UPLOAD + 1, FIRST_UPLOAD + 2]
    assert (found.page.index, found.page.count) == (0, 3)


@ensureDeferred
async def test_more_is_appended(storage):
    """What is uploaded to a known identity comes after what was there: duplicates too, one version on."""
    await only(storage, save(1, items=(said("a"), said("b"))))
    made = await only(storage, save(2, items=(said("a"), said("c"))))
    assert (made.id, made.version) == (1, 1)
    found = await paged(storage)
    assert texts(found) == [said(text).content for text in "abac"]
    assert numbers(found) == [FIRST_UPLOAD + n for n in range(4)]


@ensureDeferred
async def test_times_run_on(storage):
    """Each message in clear has its moment: the seconds are summed from the collection's start, over
    all its uploads; a note takes none."""
    note = Upload('<note utc="1469-07-21T02:57:56Z">n</note>')
    await only(storage, save(items=(said("a", 3), note, said("b", 5))))
    await only(storage, save(items=(said("c", 0), said("d", 2))))
    moments = [(item.at - START) // SECOND for item in (await paged(storage)).page.items]
    assert moments == [3, 3, 8, 8, 10]


@ensureDeferred
async def test_times_end(storage):
    """Messages that would come after the year 9999 are put at its end, however many seconds they say."""
    items = tuple(said(str(n), 2**31 - 1) for n in range(4400))  # summed, more than PostgreSQL can keep
    await only(storage, save(items=items))
    moments = [item.at for item in (await paged(storage, Window(4400))).page.items]
    assert moments[0] == START + (2**31 - 1) * SECOND
    assert moments[-1] == times.LATEST


@ensureDeferred
async def test_an_item_is_a_value(storage):
    """A message in clear is a PlainItem, an EncryptedData an UploadedItem with the names of its keys."""
    await only(storage, save(items=(said("a", 3),)))
    assert list((await paged(storage)).page.items) == [
        PlainItem(FIRST_UPLOAD, START + 3 * SECOND, said("a", 3).content)
    ]
    await only(storage, save(2, JULIET, items=(data("x", "k1"), data("y", "k2", "k1"), data("z"))))
    assert list((await paged(storage, with_=JULIET)).page.items) == [
        UploadedItem(FIRST_UPLOAD, data("x", "k1").content, ("k1",)),
        UploadedItem(FIRST_UPLOAD + 1, data("y", "k2", "k1").content, ("k2", "k1")),
        UploadedItem(FIRST_UPLOAD + 2, data("z").content, ()),
    ]


@ensureDeferred
async def test_beside_the_recorder(storage):
    """Uploads and the recorder can take turns in one collection: neither takes the other's numbers."""
    await storage.apply([opened(), plain(0, "a"), plain(1, "b")])
    made = await only(storage, save(9, items=(said("u", 5),)))
    assert (made.id, made.version) == (1, 1)
    await storage.apply([plain(2, "c")])
    found = await paged(storage)
    assert numbers(found) == [0, 1, 2, FIRST_UPLOAD]
    assert (found.page.items[3].at - START) // SECOND == 1 + 5
    assert (found.collection.version, found.page.count) == (2, 4)


@ensureDeferred
async def test_beside_the_recorder_sealed(storage):
    """EncryptedData can be uploaded to a collection that is recorded sealed."""
    await storage.apply([sealed_open(), sealed(0)])
    await only(storage, save(items=(data("x", "k2"),), keys=(carried("k2"),)))
    found = await paged(storage)
    assert list(found.page.items) == [
        SealedItem(0, "k1", GCM, b"cipher"),
        UploadedItem(FIRST_UPLOAD, data("x", "k2").content, ("k2",)),
    ]
    assert found.keys == {"k1": [wrapped("k1")], "k2": [carried("k2")]}


@ensureDeferred
async def test_uploads_are_resealed_too(storage):
    """A collection held in clear, recorded and uploaded, is sealed as a whole."""
    await storage.apply([opened(), plain(0), save(items=(said("u"),))])
    held = await storage.plain_items(ROMEO, 1, -1, 10)
    assert [item.number for item in held] == [0, FIRST_UPLOAD]
    items = tuple(SealedItem(item.number, "k1", GCM, b"cipher") for item in held)
    await storage.apply([Reseal(ROMEO, 1, "k1", GCM, (wrapped("k1"),), items)])
    assert list((await paged(storage)).page.items) == list(items)


@ensureDeferred
async def test_identities(storage):
    """Another contact or another start, by a microsecond, is another collection."""
    identities = [(CHAMBER, START), (CHAMBER, START + 1), (JULIET, START)]
    made = await storage.apply([save(n, *identity) for n, identity in enumerate(identities, 1)])
    assert [(one.id, one.with_, one.start) for one in made] == [(n, *i) for n, i in enumerate(identities, 1)]
    assert (await listed(storage)).count == 3


@pytest.mark.clause("0136f-collections-thread-02")
@ensureDeferred
async def test_thread(storage):
    """A thread can be told later; once it is known it stays, whatever is uploaded."""
    assert (await only(storage, save())).thread is None
    assert (await only(storage, save(thread="t1"))).thread == "t1"
    made = await only(storage, save(thread="t2"))
    assert (made.thread, made.version) == ("t1", 1)


@ensureDeferred
async def test_subject(storage):
    """A new subject replaces the old one; none leaves it; an empty one removes it."""
    subjects = ["one", None, "one", "two", "", ""]
    made = [await only(storage, save(subject=subject)) for subject in subjects]
    assert [(one.subject, one.version) for one in made] == [
        ("one", 0),
        ("one", 0),
        ("one", 0),
        ("two", 1),
        (None, 2),
        (None, 2),
    ]


@ensureDeferred
async def test_links(storage):
    """A link uploaded replaces the one of its name, None removes it, and the other stays."""
    for links, expected, version in [
        ({"next": THERE}, {"next": THERE}, 0),
        ({"previous": ELSEWHERE}, {"previous": ELSEWHERE, "next": THERE}, 1),
        ({"next": ELSEWHERE}, {"previous": ELSEWHERE, "next": ELSEWHERE}, 2),
        ({}, {"previous": ELSEWHERE, "next": ELSEWHERE}, 2),
        ({"next": ELSEWHERE}, {"previous": ELSEWHERE, "next": ELSEWHERE}, 2),
        ({"next": None, "previous": THERE}, {"previous": THERE}, 3),
        ({"next": None}, {"previous": THERE}, 3),
    ]:
        made = await only(storage, save(links=links))
        assert (made.version, (await paged(storage)).links) == (version, expected)


@ensureDeferred
async def test_form(storage):
    """A form replaces the one before it, None leaves it, and an empty one removes it."""
    other = Form("<x><field>other</field></x>")
    for form, expected, version in [
        (NO_FORM, None, 0),
        (FORM, FORM, 1),
        (FORM, FORM, 1),
        (None, FORM, 1),
        (other, other, 2),
        (NO_FORM, None, 3),
        (NO_FORM, None, 3),
    ]:
        made = await only(storage, save(form=form))
        assert (made.version, (await paged(storage)).form) == (version, expected)


@ensureDeferred
async def test_one_upload_is_one_version(storage):
    """Whatever one upload changes, the version is one higher; two in one batch are two."""
    await only(storage, save())
    rich = {"subject": "s", "links": {"next": THERE}, "form": FORM, "items": (said(), said())}
    made = await storage.apply([save(**rich), save(**rich)])
    assert [one.version for one in made] == [1, 2]


@ensureDeferred
async def test_an_upload_of_nothing_new(storage):
    """What changes nothing is no change: the same version, and no news for replicas."""
    full = {
        "thread": "t",
        "subject": "s",
        "links": {"next": THERE},
        "form": SECRET_FORM,
        "keys": (carried(),),
    }
    first = await only(storage, save(**full))
    before = await everything(storage)
    for again in (save(**full), save(), save(links={"previous": None})):
        assert await only(storage, again) == first
    assert await everything(storage) == before


@ensureDeferred
async def test_an_upload_of_nothing(storage):
    """To an identity that there is not, an upload of nothing makes an empty collection."""
    made = await only(storage, save(links={"next": None}, form=NO_FORM))
    assert (made.version, made.crypt) == (0, False)
    assert (await paged(storage)).page.count == 0


@ensureDeferred
async def test_equal_keys_are_kept_once(storage):
    """An octet-identical EncryptedKey is kept once; one that differs is kept beside its like."""
    assert (await only(storage, save(items=(data("x", "k1"),), keys=(carried(), carried())))).version == 0
    assert (await only(storage, save(keys=(carried(),)))).version == 0
    assert (await only(storage, save(keys=(carried(), carried(text="anew"))))).version == 1
    found = (await paged(storage)).keys["k1"]
    assert len(found) == 2
    assert set(found) == {carried(), carried(text="anew")}


@pytest.mark.parametrize(
    "content",
    [{"items": (data(),)}, {"keys": (carried(),)}, {"form": SECRET_FORM}],
    ids=["data", "key", "form"],
)
@ensureDeferred
async def test_crypt(storage, content):
    """EncryptedData, EncryptedKey or a form that holds EncryptedData each make a collection crypt."""
    assert not (await only(storage, save(form=FORM))).crypt
    assert (await only(storage, save(**content))).crypt
    assert [shown.crypt for shown in (await listed(storage)).items] == [True]


@ensureDeferred
async def test_crypt_no_longer(storage):
    """Without its encrypted form, a collection that holds nothing else encrypted is not crypt."""
    assert (await only(storage, save(form=SECRET_FORM))).crypt
    assert not (await only(storage, save(form=FORM))).crypt


@pytest.mark.parametrize(
    "before",
    [
        [save(items=(said(),))],
        [opened(), plain(0)],
        [save(items=(Upload("<note>n</note>"),))],
    ],
    ids=["uploaded", "recorded", "note"],
)
@pytest.mark.parametrize(
    "more",
    [{"items": (data(),)}, {"keys": (carried(),)}, {"form": SECRET_FORM}],
    ids=["data", "key", "form"],
)
@ensureDeferred
async def test_nothing_encrypted_beside_what_is_in_clear(storage, before, more):
    """Nothing encrypted is taken into a collection that holds messages or notes in clear."""
    await storage.apply(before)
    archive = await everything(storage)
    assert isinstance(await only(storage, save(subject="new", **more)), NotAcceptable)
    assert await everything(storage) == archive


@pytest.mark.parametrize(
    "before",
    [
        [save(items=(data(),))],
        [save(keys=(carried(),))],
        [save(form=SECRET_FORM)],
        [sealed_open(), sealed(0)],
    ],
    ids=["data", "key", "form", "recorded"],
)
@ensureDeferred
async def test_nothing_in_clear_beside_what_is_encrypted(storage, before):
    """No message in clear is taken into a collection that holds anything encrypted."""
    await storage.apply(before)
    archive = await everything(storage)
    assert isinstance(await only(storage, save(subject="new", items=(said(),))), NotAcceptable)
    assert await everything(storage) == archive


@ensureDeferred
async def test_both_in_one_upload(storage):
    """An upload of messages in clear and EncryptedData is not taken, and makes no collection."""
    for more in ({"items": (said(), data())}, {"items": (said(),), "keys": (carried(),)}):
        assert isinstance(await only(storage, save(**more)), NotAcceptable)
    assert (await listed(storage)).count == 0
    assert (await modified(storage)).count == 0


@ensureDeferred
async def test_nothing_in_clear_where_the_recorder_seals(storage):
    """What the recorder opened sealed stays so, even without any item or EncryptedKey."""
    await storage.apply([sealed_open(), DeleteKeys(ROMEO, CHAMBER, START, ("laptop",), guard=False)])
    assert [shown.crypt for shown in (await listed(storage)).items] == [True]
    assert isinstance(await only(storage, save(items=(said(),))), NotAcceptable)


@ensureDeferred
async def test_messages_instead_of_an_encrypted_form(storage):
    """An upload that replaces the encrypted form by one in clear may bring messages in clear."""
    await only(storage, save(form=SECRET_FORM))
    made = await only(storage, save(form=FORM, items=(said(),)))
    assert (made.version, made.crypt) == (1, False)


@ensureDeferred
async def test_what_goes_with_either(storage):
    """Subject, links and a form in clear go with an encrypted collection as with one in clear."""
    more = {"subject": "s", "links": {"next": THERE}, "form": FORM}
    made = await storage.apply([save(1, items=(data(),)), save(2, JULIET, items=(said(),))])
    made += await storage.apply([save(1, **more), save(2, JULIET, **more)])
    assert [one.version for one in made] == [0, 0, 1, 1]


@ensureDeferred
async def test_size(storage):
    """A collection takes as many octets of items as it may have, and not one more."""
    item = said("ü" * 50)
    size = len(item.content.encode())
    small = {"most_octets": 2 * size, "items": (item,)}
    assert [(await only(storage, save(**small))).version for _ in range(2)] == [0, 1]
    archive = await everything(storage)
    assert isinstance(await only(storage, save(**small)), NotAcceptable)
    assert await everything(storage) == archive
    assert (await only(storage, save(most_octets=2 * size, subject="s"))).version == 2


@ensureDeferred
async def test_more_than_it_may_have(storage):
    """A collection that has more than it may have by now takes everything but items."""
    await only(storage, save(items=(said("x" * 100),)))
    assert (await only(storage, save(most_octets=50, subject="s"))).version == 1
    assert isinstance(await only(storage, save(most_octets=50, items=(said(""),))), NotAcceptable)


def heavy(share, *recipients, name="k1"):
    """An EncryptedKey of a quarter, a half ... of what a data key may have."""
    bare = len(carried(name, *recipients, text="").content)
    return carried(name, *recipients, text="x" * (int(MOST_WRAPPED * share) - bare))


@ensureDeferred
async def test_room_for_keys(storage):
    """A data key has room for so many octets of uploaded EncryptedKeys, in all collections of its owner."""
    await storage.apply([save(1, keys=(heavy(0.5),)), save(1, keys=(heavy(0.5),), owner=JULIET)])
    await only(storage, save(2, JULIET, keys=(heavy(0.5, "phone"),)))
    archive = await everything(storage)
    assert isinstance(await only(storage, save(2, JULIET, keys=(carried(),))), NotAcceptable)
    assert await everything(storage) == archive
    assert (await only(storage, save(2, JULIET, keys=(carried("k2"),)))).version == 1


@ensureDeferred
async def test_room_for_keys_that_are_there(storage):
    """An EncryptedKey that its collection has needs no room, one that comes twice needs it once."""
    keys = (heavy(0.5), heavy(0.5), heavy(0.5, "phone"))
    first = await only(storage, save(keys=keys))
    assert await only(storage, save(keys=keys)) == first


@ensureDeferred
async def test_room_for_keys_of_several(storage):
    """An EncryptedKey needs room for each public key that it names."""
    assert isinstance(await only(storage, save(keys=(heavy(0.4, "laptop", "phone", "pda"),))), NotAcceptable)
    await only(storage, save(keys=(heavy(0.4, "laptop", "phone"),)))
    assert isinstance(await only(storage, save(keys=(heavy(0.4),))), NotAcceptable)
    assert (await only(storage, save(keys=(heavy(0.2),)))).version == 1


@ensureDeferred
async def test_size_counts_all(storage):
    """The octets that were recorded count, sealed or in clear."""
    await storage.apply(
        [opened(), plain(0, "x" * 100), sealed_open(2, with_=JULIET), sealed(0, "k1", 2, b"x" * 100)]
    )
    uploads = [save(1, most_octets=120, items=(said(),)), save(2, JULIET, most_octets=120, items=(data(),))]
    assert [type(outcome) for outcome in await storage.apply(uploads)] == [NotAcceptable] * 2


@ensureDeferred
async def test_a_refused_upload_stands_alone(storage):
    """An upload that is not taken changes nothing, and all else of its batch is made."""
    outcomes = await storage.apply(
        [
            opened(1),
            save(2, JULIET, items=(said(), data())),
            plain(0),
            save(3, "nurse@capulet.lit", items=(said(),)),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), NotAcceptable, type(None), Collection]
    assert {shown.id for shown in (await listed(storage)).items} == {1, 3}
    with pytest.raises(NoSuchCollection):
        await paged(storage, with_=JULIET)


@ensureDeferred
async def test_again(storage):
    """Uploads applied again are not made twice, and have the same outcomes."""
    batch = [save(items=(said("a"),)), save(items=(said("b"),)), save(items=(data(),))]
    outcomes = await storage.apply(batch)
    archive = await everything(storage)
    again = await storage.apply(batch, again=True)
    assert again[:2] == outcomes[:2]
    assert isinstance(again[2], NotAcceptable)
    assert await everything(storage) == archive


@ensureDeferred
async def test_the_same_upload_anew(storage):
    """The same upload that is not said to be applied again is made again."""
    for _ in range(2):
        await only(storage, save(items=(said("a"),)))
    assert (await paged(storage)).page.count == 2


@ensureDeferred
async def test_owners_are_apart(storage):
    """Two owners' uploads with the same id, contact and start are two collections."""
    await storage.apply([save(items=(said("his"),)), save(owner=JULIET, items=(said("hers"),))])
    assert texts(await paged(storage)) == [said("his").content]
    assert texts(await paged(storage, owner=JULIET)) == [said("hers").content]


@ensureDeferred
async def test_an_uploaded_start_is_taken(storage):
    """A recorded collection that would begin where an uploaded one does begins a little later."""
    await only(storage, save(1))
    await storage.apply([opened(2)])
    starts = [shown.start for shown in (await listed(storage)).items]
    assert starts[0] == START
    assert START < starts[1] < START + SECOND

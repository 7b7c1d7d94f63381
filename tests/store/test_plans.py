"""How PostgreSQL finds what a large archive is asked for: always by an index."""

from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import cursor

from archive_crypt.errors import QuotaExceeded
from archive_crypt.model import SECOND, Window
from archive_crypt.store import reads, removals
from archive_crypt.store.interfaces import DeleteKeys, Expire, ListFilter, Remove
from archive_crypt.store.quota import Quota
from archive_crypt.store.rows import Rows
from tests.store.kit import ROMEO, START, plain, said, save

#: Tables that grow with the archives.
LARGE = {"item", "collection", "change", "encrypted_key", "data_key"}
MANY, OTHERS = 20_000, 10
BEGINNING = f"{START} + n * {SECOND}::bigint"
WITH = "'c' || n %% 200 || '@d' || n %% 20 || '.lit/home'"
CONTACT, DOMAIN = "c7@d7.lit", "d7.lit"
MIDDLE = (START + MANY // 2 * SECOND, MANY // 2)

#: One owner's rows: of each collection a data key wrapped for two public keys, and one item; the first
#: has many.
ARCHIVE = f"""
    INSERT INTO collection (owner, id, with_, start, crypt, form_keys)
        SELECT %(owner)s, n, {WITH}, {BEGINNING}, true, CASE WHEN n %% 100 = 0 THEN ARRAY['k' || n] ELSE '{{}}' END
        FROM generate_series(1, %(many)s) AS n;
    INSERT INTO change (owner, collection, with_, start, version, stamp, items, removed, octets, archived)
        SELECT %(owner)s, n, {WITH}, {BEGINNING}, 0, {BEGINNING}, 1, false, 9, {BEGINNING} - n %% 50 / 49
        FROM generate_series(1, %(many)s) AS n;
    INSERT INTO change (owner, collection, with_, start, version, stamp, items, removed)
        SELECT %(owner)s, -n, 'gone@d.lit', {BEGINNING}, 0, {BEGINNING} + 9, 0, true
        FROM generate_series(1, %(many)s / 10) AS n;
    INSERT INTO data_key (owner, collection, key, name, algorithm)
        SELECT %(owner)s, n, 0, 'k' || n, 'a' FROM generate_series(1, %(many)s) AS n;
    INSERT INTO encrypted_key (owner, collection, name, recipient, algorithm, cipher)
        SELECT %(owner)s, n, 'k' || n, r, 'a', 'wrapped' FROM generate_series(1, %(many)s) AS n,
        unnest(ARRAY['laptop', 'phone']) AS r;
    INSERT INTO item (owner, collection, number, key, content)
        SELECT %(owner)s, n, 0, 0, 'cipher' FROM generate_series(1, %(many)s) AS n;
    INSERT INTO item (owner, collection, number, key, content)
        SELECT %(owner)s, 1, n, 0, 'cipher' FROM generate_series(1, %(many)s / 4) AS n;
"""


class Explaining(cursor):
    """A cursor that asks for the plan of what it executes, and keeps the scans of whole large tables,
    and the statements that join and sort more than they cut out."""

    def __init__(self, *args):
        super().__init__(*args)
        self.executed, self.whole, self.sorting = 0, [], []

    def execute(self, query, values=None):
        text = self.mogrify(query, values)
        if b"SAVEPOINT" in text:  # it has no plan
            super().execute(text)
            return
        super().execute(b"EXPLAIN (FORMAT JSON) " + text)
        ((plans,),) = self.fetchall()
        self.executed += 1
        nodes = list(nodes_of(plans[0]["Plan"]))
        self.whole += [(table, text.decode()) for table in map(scanned, nodes) if table in LARGE]
        below = [node for limit in nodes if limit["Node Type"] == "Limit" for node in nodes_of(limit)]
        joined = LARGE.intersection(node.get("Relation Name") for node in below)
        if len(joined) > 1 and any("Sort Key" in node for node in below):
            self.sorting.append(text.decode())
        super().execute(text)


def nodes_of(node):
    """A node of a plan and all below it."""
    yield node
    for part in node.get("Plans", ()):
        yield from nodes_of(part)


def scanned(node):
    """The table that a node reads as a whole, itself or by an index."""
    whole = "Index Cond" not in node and node["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan")
    return node["Relation Name"] if whole else None


@pytest.fixture(scope="module")
def large(postgres):
    """A connection to a database with a large archive among smaller ones."""
    with closing(psycopg2.connect(postgres, cursor_factory=Explaining)) as connection:
        with connection, connection.cursor(cursor_factory=cursor) as loading:
            loading.execute("TRUNCATE owner, item CASCADE")
            loading.execute("SET LOCAL session_replication_role = replica")  # no foreign keys: in a third
            for n in range(OTHERS + 1):
                jid, many = (f"u{n}@montague.lit", MANY // 20) if n else (ROMEO, MANY)
                loading.execute("INSERT INTO owner (jid) VALUES (%s) RETURNING id", (jid,))
                (owner,) = loading.fetchone()
                loading.execute(ARCHIVE, {"owner": owner, "many": many})
            loading.execute("ANALYZE")
        yield connection
        connection.rollback()
        with connection, connection.cursor(cursor_factory=cursor) as emptying:
            emptying.execute("TRUNCATE owner, item CASCADE")


@pytest.fixture
def explaining(large):
    """A cursor whose statements, at the end, turn out to have read no large table as a whole; what they
    did is undone."""
    with large.cursor() as explaining:
        yield explaining
        large.rollback()
        assert explaining.executed
        assert not explaining.whole


FILTERS = [
    ListFilter(),
    ListFilter(start=START, end=MIDDLE[0]),
    ListFilter(with_=CONTACT),
    ListFilter(with_=CONTACT, start=MIDDLE[0]),
    ListFilter(with_=f"{CONTACT}/home", exact=True),
    ListFilter(with_=DOMAIN),
    ListFilter(with_=f"{CONTACT}/home", start=START + 7 * SECOND, identity=True),
]
KINDS = ["all", "times", "bare", "since", "exact", "domain", "identity"]
WINDOWS = [
    Window(limit=100),
    Window(limit=100, after=MIDDLE),
    Window(limit=100, before=MIDDLE, backwards=True),
    Window(limit=100, index=50),
]


@pytest.mark.parametrize("which", FILTERS, ids=KINDS)
def test_list(explaining, which):
    """Any list, at its beginning and in its midst: only the collections of a page are joined and sorted."""
    for window in WINDOWS:
        assert reads.collections(explaining, ROMEO, which, window).count
    assert not explaining.sorting


def test_retrieve(explaining):
    """A page of a collection of a few items or many, with all EncryptedKeys or those for some."""
    for n in (1, 700):
        for recipients in ((), ("laptop",)):
            for window in (
                Window(limit=50),
                Window(limit=50, backwards=True),
                Window(limit=50, after=(900,)),
            ):
                with_ = f"c{n % 200}@d{n % 20}.lit/home"
                assert reads.page(explaining, ROMEO, with_, START + n * SECOND, window, recipients).page.count


def test_plain_items(explaining):
    """What is to be sealed of a collection."""
    reads.plain_items(explaining, ROMEO, 1, -1, 100)


def test_keys(explaining):
    """The list of EncryptedKeys for public keys: of all collections, or there are none."""
    for window in WINDOWS:
        assert reads.keys(explaining, ROMEO, ("laptop",), window).count == MANY
        assert not reads.keys(explaining, ROMEO, ("watch",), window).count


def test_modified(explaining):
    """What is new since some moment, long ago or not."""
    for after in (0, MIDDLE[0], MIDDLE[0] * 2 - START - 100 * SECOND):
        for window in (Window(limit=100), Window(limit=100, after=(MIDDLE[0],))):
            reads.modified(explaining, ROMEO, after, window)


@pytest.mark.parametrize("which", FILTERS, ids=KINDS)
def test_remove(explaining, which):
    """A removal of the first collections that match."""
    assert Rows().apply(explaining, [Remove(ROMEO, which, 100)], again=False) > [0]


def test_remove_by_id(explaining):
    """A removal of collections that are open."""
    assert Rows().apply(explaining, [Remove(ROMEO, ListFilter(), 100, frozenset((3, 4)))], again=False) == [2]


@pytest.mark.parametrize("guard", [False, True])
def test_delete_keys(explaining, guard):
    """A deletion of the EncryptedKeys for a public key in one collection."""
    change = DeleteKeys(ROMEO, f"{CONTACT}/home", START + 7 * SECOND, ("laptop",), guard)
    assert Rows().apply(explaining, [change], again=False) == [1]


def test_expire(explaining):
    """A round of expiry."""
    change = Expire(ROMEO, START + 1000 * SECOND, lambda with_, archived: True, 100)
    assert Rows().apply(explaining, [change], again=False) == [100]


def test_forget(explaining):
    """The end of old removals."""
    assert removals.forget(explaining, START + 1000 * SECOND, 100) == 100


@pytest.mark.parametrize("change", [save(99_999_999, items=(said(),)), plain(9999, collection=7)])
def test_making_room(explaining, change):
    """The oldest go for what is new."""
    explaining.execute("UPDATE owner SET octets = 1000, collections = 1000 WHERE jid = %s", (ROMEO,))
    (outcome,) = Rows(Quota(octets=1000, rolling=True)).apply(explaining, [change], again=False)
    assert not isinstance(outcome, QuotaExceeded)

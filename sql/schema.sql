-- archive_crypt's tables, the whole truth. Each change is also a file in migrations/;
-- a test holds the two equal. Moments are microseconds since 1970-01-01 UTC (bigint).
-- `owner` leads every primary key, so that partitions need no change of code.

-- One account. Whoever changes anything of an owner locks this row first and only then draws
-- the stamps of the changes: a stamp taken without the lock could commit behind a reader's
-- cursor and be lost for good.
CREATE TABLE owner (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    jid text COLLATE "C" NOT NULL UNIQUE,          -- bare JID
    revision bigint NOT NULL DEFAULT 0,            -- of the preferences: what was sealed under another is decided again
    octets bigint NOT NULL DEFAULT 0,              -- of all his collections, as `change` has them
    collections integer NOT NULL DEFAULT 0         -- how many there are
) WITH (fillfactor = 70);

-- A collection (XEP-0136 5.2): its identity for the owner is (with_, start).
CREATE TABLE collection (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    id bigint NOT NULL,                            -- made by the recorder: (milliseconds << 22) | random
    with_ text COLLATE "C" NOT NULL,               -- the peer's JID, full or bare
    start bigint NOT NULL,
    thread text,
    subject text,
    crypt boolean NOT NULL,                        -- holds EncryptedData or EncryptedKey (XEP-0241 4)
    bare text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(with_, '/', 1)) STORED,
    domain text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        substr(split_part(with_, '/', 1), strpos(split_part(with_, '/', 1), '@') + 1)) STORED,
    previous_with text COLLATE "C",                -- <previous/> and <next/> (5.7): the other need not exist
    previous_start bigint,
    next_with text COLLATE "C",
    next_start bigint,
    form_keys text[] NOT NULL DEFAULT '{}',        -- data keys that its form names; the form is item -1
    PRIMARY KEY (owner, id),
    UNIQUE (owner, with_, start)
);
CREATE INDEX collection_by_start ON collection (owner, start, id);
CREATE INDEX collection_by_bare ON collection (owner, bare, start, id);
CREATE INDEX collection_by_domain ON collection (owner, domain, start, id);
CREATE INDEX collection_by_form ON collection (owner) WHERE form_keys <> '{}';

-- The latest change of each collection, for replication (XEP-0136 10) and versions. Kept apart
-- and narrow: in the collection's own row every new stamp would rewrite all of its indexes.
CREATE TABLE change (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    collection bigint NOT NULL,
    with_ text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    version integer NOT NULL,                      -- 0 when new, +1 with each change
    stamp bigint NOT NULL,                         -- unique for the owner
    items integer NOT NULL,                        -- how many the collection holds
    removed boolean NOT NULL DEFAULT false,        -- a tombstone: the collection is gone
    octets bigint NOT NULL DEFAULT 0,              -- of its items, its form and its EncryptedKeys
    archived bigint NOT NULL DEFAULT 0,            -- stamp of the last change that brought an item
    PRIMARY KEY (owner, collection),
    UNIQUE (owner, stamp)
) WITH (fillfactor = 70);
-- A tombstone ends when its collection is made anew.
CREATE UNIQUE INDEX change_removed ON change (owner, with_, start) WHERE removed;
CREATE INDEX change_forgotten ON change (stamp) WHERE removed;
-- Expiry looks for what was archived long ago: by its stamp, or here if it was touched since.
CREATE INDEX change_touched ON change (owner, archived) WHERE archived < stamp AND NOT removed;

-- A data key's name and algorithm; the key itself is never here. `key` numbers them in a collection.
-- Of uploaded EncryptedData only the name is known, and the algorithm is ''.
CREATE TABLE data_key (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    key smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    algorithm text NOT NULL,                       -- URI of the content encryption
    PRIMARY KEY (owner, collection, key),
    UNIQUE (owner, name, collection),
    FOREIGN KEY (owner, collection) REFERENCES collection ON DELETE CASCADE
);

-- A data key wrapped for one public key (XEP-0241 2). An uploaded one is kept as its element: its
-- algorithm is '', and it has a row for each public key that it names, or one with ''.
CREATE TABLE encrypted_key (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    name text COLLATE "C" NOT NULL,                -- CarriedKeyName
    recipient text COLLATE "C" NOT NULL,           -- KeyName of the public key
    algorithm text NOT NULL,                       -- URI of the key transport
    cipher bytea NOT NULL,                         -- octets of the CipherValue, or the element's UTF-8
    FOREIGN KEY (owner, collection) REFERENCES collection ON DELETE CASCADE
);
-- Found by name; and the same one is not kept twice. Two public keys may have one name, so the
-- wrapping itself is part of the identity, or the second would be lost.
CREATE UNIQUE INDEX encrypted_key_by_name
    ON encrypted_key (owner, name, recipient, collection, substr(sha256(cipher), 1, 8));
CREATE INDEX encrypted_key_by_collection ON encrypted_key (owner, collection);
CREATE INDEX encrypted_key_by_recipient ON encrypted_key (owner, recipient, collection);

-- One message. (owner, collection, number) is also what makes a repeated write harmless.
-- No foreign key: checking it row by row took a quarter of the writer's speed. The writer
-- holds the owner's lock, and takes back what it wrote if the collection turns out to be gone.
CREATE TABLE item (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    number integer NOT NULL,                       -- in order: recorded from 0, uploaded from 2^16; -1: the form
    key smallint,                                  -- the data key that sealed it; NULL: in clear, or uploaded
    at bigint,                                     -- its time; NULL when sealed (it is inside)
    content bytea NOT NULL,                        -- octets of the CipherValue, or the element's UTF-8
    PRIMARY KEY (owner, collection, number),
    CHECK (key IS NULL OR at IS NULL)
);
ALTER TABLE item ALTER content SET STORAGE EXTERNAL;  -- ciphertext does not compress: do not try

-- Auto-archiving settings: the one that outlives streams, scope='global' (XEP-0136 1.3.1, 2.2.1), and
-- those of streams that outlive our process, which live in a server beside it.
CREATE TABLE auto (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    save boolean NOT NULL,
    encrypt boolean NOT NULL,
    namespace text NOT NULL,                       -- of the request, for what is sealed
    resource text COLLATE "C" NOT NULL DEFAULT '', -- of the stream; '': of all later ones
    PRIMARY KEY (owner, resource)
);

-- The public keys supplied with them (XEP-0241 3).
CREATE TABLE supplied_key (
    owner bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    der bytea NOT NULL,                            -- SubjectPublicKeyInfo
    resource text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (owner, resource, name),
    FOREIGN KEY (owner, resource) REFERENCES auto ON DELETE CASCADE
);

-- Archiving preferences (XEP-0136 3). Expiry asks for those that have a time.
CREATE TABLE preference_default (
    owner bigint PRIMARY KEY REFERENCES owner ON DELETE CASCADE,
    save text NOT NULL,
    otr text NOT NULL,
    expire bigint                                  -- seconds
);
CREATE INDEX preference_default_expiring ON preference_default (owner) WHERE expire IS NOT NULL;

CREATE TABLE preference_item (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    jid text COLLATE "C" NOT NULL,
    exact boolean NOT NULL,
    save text NOT NULL,
    otr text NOT NULL,
    expire bigint,                                 -- seconds
    PRIMARY KEY (owner, jid)
);
CREATE INDEX preference_item_expiring ON preference_item (owner) WHERE expire IS NOT NULL;

CREATE TABLE preference_session (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    thread text COLLATE "C" NOT NULL,
    save text NOT NULL,
    otr text,
    timeout bigint NOT NULL,                       -- seconds after the thread's last message
    until bigint NOT NULL,                         -- when it lapses, as far as was known
    PRIMARY KEY (owner, thread)
);

CREATE TABLE preference_method (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    type text NOT NULL,
    use text NOT NULL,
    PRIMARY KEY (owner, type)
);

-- How far the spools of sealed changes have come, each of one process: which of its records are in the tables
-- above, and which of the batches that this process wrote itself. Set in the transaction that it tells of, so
-- that none is made twice.
CREATE TABLE spool (
    id uuid PRIMARY KEY,
    records bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0
);

-- The public keys the user publishes (XEP-0189), as last seen.
CREATE TABLE published_key (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    position integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    der bytea NOT NULL,                            -- SubjectPublicKeyInfo
    since bigint,                                  -- good from and to
    until bigint,
    PRIMARY KEY (owner, position)
);

-- The tables as of version 0.1; what they mean is said in ../schema.sql.

CREATE TABLE owner (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    jid text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE collection (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    id bigint NOT NULL,
    with_ text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    thread text,
    subject text,
    crypt boolean NOT NULL,
    bare text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(with_, '/', 1)) STORED,
    domain text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        substr(split_part(with_, '/', 1), strpos(split_part(with_, '/', 1), '@') + 1)) STORED,
    PRIMARY KEY (owner, id),
    UNIQUE (owner, with_, start)
);
CREATE INDEX collection_by_start ON collection (owner, start, id);
CREATE INDEX collection_by_bare ON collection (owner, bare, start, id);
CREATE INDEX collection_by_domain ON collection (owner, domain, start, id);

CREATE TABLE change (
    owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE,
    collection bigint NOT NULL,
    with_ text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    version integer NOT NULL,
    stamp bigint NOT NULL,
    items integer NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (owner, collection),
    UNIQUE (owner, stamp)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX change_removed ON change (owner, with_, start) WHERE removed;

CREATE TABLE data_key (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    key smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    algorithm text NOT NULL,
    PRIMARY KEY (owner, collection, key),
    UNIQUE (owner, collection, name),
    FOREIGN KEY (owner, collection) REFERENCES collection ON DELETE CASCADE
);

CREATE TABLE encrypted_key (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    recipient text COLLATE "C" NOT NULL,
    algorithm text NOT NULL,
    cipher bytea NOT NULL,
    FOREIGN KEY (owner, collection) REFERENCES collection ON DELETE CASCADE
);
CREATE UNIQUE INDEX encrypted_key_by_name
    ON encrypted_key (owner, name, recipient, collection, substr(sha256(cipher), 1, 8));
CREATE INDEX encrypted_key_by_collection ON encrypted_key (owner, collection);

CREATE TABLE item (
    owner bigint NOT NULL,
    collection bigint NOT NULL,
    number integer NOT NULL,
    key smallint,
    at bigint,
    content bytea NOT NULL,
    PRIMARY KEY (owner, collection, number),
    CHECK ((key IS NULL) = (at IS NOT NULL))
);
ALTER TABLE item ALTER content SET STORAGE EXTERNAL;

CREATE TABLE auto (
    owner bigint PRIMARY KEY REFERENCES owner ON DELETE CASCADE,
    save boolean NOT NULL,
    encrypt boolean NOT NULL,
    namespace text NOT NULL
);

CREATE TABLE supplied_key (
    owner bigint NOT NULL REFERENCES auto ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    der bytea NOT NULL,
    PRIMARY KEY (owner, name)
);

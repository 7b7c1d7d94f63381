-- Uploads, removals, keys, replication, preferences and expiry: the whole of XEP-0136.

ALTER TABLE owner ADD revision bigint NOT NULL DEFAULT 0;

ALTER TABLE collection
    ADD previous_with text COLLATE "C",
    ADD previous_start bigint,
    ADD next_with text COLLATE "C",
    ADD next_start bigint,
    ADD form_keys text[] NOT NULL DEFAULT '{}';
CREATE INDEX collection_by_form ON collection (owner) WHERE form_keys <> '{}';

ALTER TABLE change
    ADD octets bigint NOT NULL DEFAULT 0,
    ADD archived bigint NOT NULL DEFAULT 0;
UPDATE change c SET archived = stamp, octets = (
    SELECT coalesce(sum(octet_length(content)), 0) FROM item i
    WHERE i.owner = c.owner AND i.collection = c.collection);
CREATE INDEX change_forgotten ON change (stamp) WHERE removed;
CREATE INDEX change_touched ON change (owner, archived) WHERE archived < stamp AND NOT removed;

ALTER TABLE data_key DROP CONSTRAINT data_key_owner_collection_name_key;
ALTER TABLE data_key ADD UNIQUE (owner, name, collection);
CREATE INDEX encrypted_key_by_recipient ON encrypted_key (owner, recipient, collection);

ALTER TABLE item DROP CONSTRAINT item_check;
ALTER TABLE item ADD CHECK (key IS NULL OR at IS NULL);

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

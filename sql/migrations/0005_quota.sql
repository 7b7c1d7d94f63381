-- How much each owner keeps: counted as it changes, so that nobody has to add it up.

ALTER TABLE owner ADD octets bigint NOT NULL DEFAULT 0;
ALTER TABLE owner ADD collections integer NOT NULL DEFAULT 0;
ALTER TABLE owner SET (fillfactor = 70);

-- So far a collection's octets were those of its items alone.
UPDATE change c SET octets = c.octets + more.octets FROM (
    SELECT owner, collection, sum(octets) AS octets FROM (
        SELECT owner, collection, octet_length(cipher) AS octets FROM encrypted_key
        UNION ALL SELECT owner, collection, octet_length(content) FROM item WHERE number = -1
    ) AS one GROUP BY owner, collection
) AS more WHERE c.owner = more.owner AND c.collection = more.collection AND NOT c.removed;

UPDATE owner o SET octets = kept.octets, collections = kept.collections FROM (
    SELECT owner, sum(octets) AS octets, count(*) AS collections FROM change WHERE NOT removed GROUP BY owner
) AS kept WHERE o.id = kept.owner;

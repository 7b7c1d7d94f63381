-- How far the spools of sealed changes have come.

CREATE TABLE spool (
    id uuid PRIMARY KEY,
    records bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0
);

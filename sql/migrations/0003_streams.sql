-- Settings of streams that outlive our process, beside the lasting one ('').

ALTER TABLE supplied_key DROP CONSTRAINT supplied_key_owner_fkey;
ALTER TABLE supplied_key DROP CONSTRAINT supplied_key_pkey;
ALTER TABLE auto DROP CONSTRAINT auto_pkey;

ALTER TABLE auto ADD resource text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE auto ADD PRIMARY KEY (owner, resource);

ALTER TABLE supplied_key ADD resource text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE supplied_key ADD PRIMARY KEY (owner, resource, name);
ALTER TABLE supplied_key ADD FOREIGN KEY (owner, resource) REFERENCES auto ON DELETE CASCADE;

-- The role that the service runs as: it reads and writes archives, and can do nothing else. Run this as a
-- superuser in the archive's database, after each `archive-crypt migrate` that the same superuser ran:
--
--     runuser -u postgres -- psql -d archive -v ON_ERROR_STOP=1 < sql/roles.sql
--
-- It can be run again at any time, also on a database that the role owned so far. What it cannot know of is left
-- to you: other schemas of this database that are open to everybody (GRANT ... TO PUBLIC), and other databases
-- of the cluster, which everybody may connect to unless that is revoked, or pg_hba.conf names this one only.

BEGIN;

DO $$
DECLARE
    one text;
BEGIN
    IF current_user = 'archive-crypt' THEN
        RAISE EXCEPTION 'run this as a superuser: the role cannot bound itself';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'archive-crypt') THEN
        CREATE ROLE "archive-crypt" LOGIN;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'archive-crypt'
               AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)) THEN
        ALTER ROLE "archive-crypt" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
    FOR one IN SELECT g.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
               JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = 'archive-crypt' LOOP
        EXECUTE format('REVOKE %I FROM "archive-crypt"', one);
    END LOOP;

    -- Whoever owns a thing can drop it.
    EXECUTE format('ALTER DATABASE %I OWNER TO CURRENT_USER', current_database());
    ALTER SCHEMA public OWNER TO CURRENT_USER;
    FOR one IN SELECT oid::regclass FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO CURRENT_USER', one);
    END LOOP;

    -- Everybody may connect to a new database, and make temporary tables there.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, "archive-crypt"', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO "archive-crypt"', current_database());

    -- Everybody may make large objects, and fill the disk with them.
    REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea)
        FROM PUBLIC, "archive-crypt";

    REVOKE ALL ON SCHEMA public FROM PUBLIC, "archive-crypt";
    GRANT USAGE ON SCHEMA public TO "archive-crypt";
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, "archive-crypt";
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "archive-crypt";
    -- What later migrations make, should this be forgotten after one.
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "archive-crypt";
    -- Which migrations were applied is none of its business, but to look at.
    FOR one IN SELECT oid::regclass FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname LIKE '%yoyo%' LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %s FROM "archive-crypt"', one);
    END LOOP;

    -- After sealing what was in clear, its rows are vacuumed. Before PostgreSQL 17 only who owns a table may
    -- do that: there it is left to autovacuum.
    IF current_setting('server_version_num')::int >= 170000 THEN
        GRANT MAINTAIN ON item TO "archive-crypt";
    END IF;
END $$;

COMMIT;

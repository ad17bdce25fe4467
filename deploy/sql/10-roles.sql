-- The roles. Their passwords are set in 25-passwords.sql, their rights in 32-registry-grants.sql and 70-grants.sql.
--
-- FireFoundry's database setup guide lists three users; the chart also creates `firebrand`, which runs the migrations.
-- All four exist here.

BEGIN;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'firebrand',            -- owns the schemas and what is in them; runs the services' migrations
    'fireinsert',           -- application services
    'firebroker',           -- FF Broker
    'fireread',             -- reads only
    'brk_registry_reader'   -- the other end of the foreign server: SELECT on the model catalog, nothing else
  ] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I', name);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
  END LOOP;
END
$$;

-- A second line only: a session may switch this off again. What holds is that these two have no right to write anything.
ALTER ROLE fireread SET default_transaction_read_only = on;
ALTER ROLE brk_registry_reader SET default_transaction_read_only = on;

COMMIT;

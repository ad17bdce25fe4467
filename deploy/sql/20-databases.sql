-- The two databases and who may connect to them.
--
-- They belong to the superuser, not to `firebrand`: an owner could drop a database or change its settings for everybody. A database that an
-- image has created already (POSTGRES_DB, auth.database) is taken as it is.

SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING ''UTF8''', name)
FROM unnest(ARRAY['firefoundry', 'broker_registry']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

BEGIN;

-- PUBLIC may connect to any database and make temporary tables there. Without this line `fireread` could do in `postgres`
-- what it may not do in `firefoundry`.
REVOKE CONNECT, TEMPORARY ON DATABASE firefoundry, broker_registry, postgres, template1 FROM PUBLIC;

-- As the setup guide's table of users has it: fireinsert and fireread use firefoundry only. `firebrand` is not in that table;
-- it migrates both. CREATE is for schemas that a migration brings along (Drizzle and Flyway keep their own).
GRANT CONNECT, TEMPORARY ON DATABASE firefoundry TO fireinsert, firebroker;
GRANT CONNECT, TEMPORARY ON DATABASE broker_registry TO firebroker;
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE firefoundry, broker_registry TO firebrand;
-- No TEMPORARY here: making a temporary table is a write to the catalogs.
GRANT CONNECT ON DATABASE firefoundry TO fireread;
GRANT CONNECT ON DATABASE broker_registry TO brk_registry_reader;

COMMIT;

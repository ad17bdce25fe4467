-- The catalog's six tables as foreign tables. Spelled out, not IMPORT FOREIGN SCHEMA: an import would have to connect, and an instance that is
-- being initialised does not always listen where it will listen later.

BEGIN;
SET LOCAL ROLE firebrand;

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.hosting_provider (
  id integer NOT NULL,
  code text NOT NULL,
  name text NOT NULL
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'hosting_provider');

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.model_maker (
  id integer NOT NULL,
  code text NOT NULL,
  name text NOT NULL
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'model_maker');

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.model_family (
  id integer NOT NULL,
  maker_id integer NOT NULL,
  code text NOT NULL,
  name text NOT NULL
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'model_family');

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.model (
  id integer NOT NULL,
  family_id integer NOT NULL,
  code text NOT NULL,
  variant text NOT NULL,
  name text NOT NULL,
  capabilities text[] NOT NULL,
  context_window integer
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'model');

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.model_snapshot (
  id integer NOT NULL,
  model_id integer NOT NULL,
  code text NOT NULL,
  released_on date
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'model_snapshot');

CREATE FOREIGN TABLE IF NOT EXISTS brk_registry.hosted_model (
  id integer NOT NULL,
  model_id integer NOT NULL,
  provider_id integer NOT NULL,
  snapshot_id integer,
  code text NOT NULL
) SERVER brk_registry_server OPTIONS (schema_name 'brk_registry', table_name 'hosted_model');

COMMIT;

-- Rights in firefoundry, for what exists and for what firebrand's migrations create later. One transaction: nobody loses a right between REVOKE
-- and GRANT, and a right that no line below gives does not survive a run.
--
-- DELETE for fireinsert: the documents say INSERT and UPDATE, but the Entity Service hard-deletes nodes (edges follow by cascade) and Doc Proc
-- evicts its cache, and fireinsert is the only role they write with. TRUNCATE is left out: nothing documented needs it.
-- fireinsert gets nothing in the broker's schemas. fireread reads everything and calls functions, which run with its own rights; a
-- migration that makes a SECURITY DEFINER function which writes has to take EXECUTE on it from fireread.
-- Migrations that make a schema of their own grant on it themselves.

BEGIN;

CREATE TEMPORARY TABLE wanted (schema_name text, role_name text, table_rights text, sequence_rights text) ON COMMIT DROP;
INSERT INTO wanted
  SELECT s, 'fireinsert', 'SELECT, INSERT, UPDATE, DELETE', 'USAGE, SELECT'
  FROM unnest(ARRAY['wm', 'entity', 'console', 'document_processing', 'websearch', 'notification']) AS s
UNION ALL
  SELECT s, 'firebroker', 'SELECT, INSERT, UPDATE, DELETE', 'USAGE, SELECT'
  FROM unnest(ARRAY['brk_tracking', 'brk_customer', 'brk_routing']) AS s
UNION ALL
  SELECT 'brk_registry', 'firebroker', 'SELECT', 'SELECT'
UNION ALL
  SELECT s, 'fireread', 'SELECT', 'SELECT'
  FROM unnest(ARRAY['wm', 'entity', 'brk_tracking', 'brk_registry', 'brk_customer', 'brk_routing', 'console',
                    'document_processing', 'websearch', 'notification']) AS s;

-- PUBLIC may call any new function unless this says otherwise; it can only be said for all schemas at once.
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

DO $$
DECLARE
  everyone constant text := 'PUBLIC, fireinsert, firebroker, fireread';
  s text;
  w record;
BEGIN
  FOR s IN SELECT DISTINCT schema_name FROM wanted ORDER BY 1 LOOP
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', s, everyone);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %s', s, everyone);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %s', s, everyone);
    EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA %I FROM %s', s, everyone);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I REVOKE ALL ON TABLES FROM %s', s, everyone);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I REVOKE ALL ON SEQUENCES FROM %s', s, everyone);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I REVOKE ALL ON ROUTINES FROM %s', s, everyone);
  END LOOP;

  FOR w IN SELECT * FROM wanted ORDER BY schema_name, role_name LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', w.schema_name, w.role_name);
    EXECUTE format('GRANT %s ON ALL TABLES IN SCHEMA %I TO %I', w.table_rights, w.schema_name, w.role_name);
    EXECUTE format('GRANT %s ON ALL SEQUENCES IN SCHEMA %I TO %I', w.sequence_rights, w.schema_name, w.role_name);
    EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA %I TO %I', w.schema_name, w.role_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I GRANT %s ON TABLES TO %I',
                   w.schema_name, w.table_rights, w.role_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I GRANT %s ON SEQUENCES TO %I',
                   w.schema_name, w.sequence_rights, w.role_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA %I GRANT EXECUTE ON ROUTINES TO %I',
                   w.schema_name, w.role_name);
  END LOOP;
END
$$;

-- It makes edges: a reader has no use for it.
DO $$
BEGIN
  IF to_regproc('entity.create_edge_with_incrementing_pos') IS NOT NULL THEN
    REVOKE EXECUTE ON FUNCTION entity.create_edge_with_incrementing_pos FROM fireread;
  END IF;
END
$$;

COMMIT;

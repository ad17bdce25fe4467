-- Functions that change something although PostgreSQL's read-only mode lets them pass, and that PUBLIC may call: large objects (up to
-- version 15), messages to other sessions and to the WAL, index maintenance, signals to other backends of the same role. They are taken
-- from PUBLIC and given to the roles that write. Included once in each database: the rights of built-in functions are kept per database.
-- The SQL command NOTIFY has no privilege; on the read-only route firepool refuses it.

BEGIN;
DO $$
DECLARE
  func regprocedure;
BEGIN
  FOR func IN
    SELECT p.oid::regprocedure
    FROM pg_proc AS p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
      AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lowrite', 'lo_unlink', 'lo_truncate', 'lo_truncate64',
                        'pg_notify', 'pg_logical_emit_message',
                        'brin_summarize_new_values', 'brin_summarize_range', 'brin_desummarize_range', 'gin_clean_pending_list',
                        'pg_terminate_backend', 'pg_cancel_backend')
    ORDER BY p.proname, p.oid
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', func);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO fireinsert, firebroker, firebrand', func);
  END LOOP;

  -- dblink opens a session with settings of the caller's choice. Nothing here needs it; where somebody installed it, a reader must not have it.
  FOR func IN
    SELECT d.objid::regprocedure
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'dblink'
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, fireread, brk_registry_reader', func);
  END LOOP;
END
$$;
COMMIT;

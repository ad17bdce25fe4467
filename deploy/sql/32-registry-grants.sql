-- Rights in broker_registry. One transaction: nobody loses a right between REVOKE and GRANT.

BEGIN;

ALTER SCHEMA brk_registry OWNER TO firebrand;
REVOKE ALL ON SCHEMA brk_registry FROM PUBLIC, firebroker, brk_registry_reader, fireinsert, fireread;
REVOKE ALL ON ALL TABLES IN SCHEMA brk_registry FROM PUBLIC, firebroker, brk_registry_reader, fireinsert, fireread;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA brk_registry FROM PUBLIC, firebroker, brk_registry_reader, fireinsert, fireread;

GRANT USAGE ON SCHEMA brk_registry TO firebroker, brk_registry_reader;
-- The broker's registry maintenance (REGISTRY_DATABASE_URL). Restoring a registry dump creates tables: that is work for firebrand.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA brk_registry TO firebroker;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA brk_registry TO firebroker;
GRANT SELECT ON ALL TABLES IN SCHEMA brk_registry TO brk_registry_reader;

-- The same for what firebrand creates later.
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA brk_registry
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO firebroker;
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA brk_registry GRANT USAGE, SELECT ON SEQUENCES TO firebroker;
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA brk_registry GRANT EXECUTE ON FUNCTIONS TO firebroker;
ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA brk_registry GRANT SELECT ON TABLES TO brk_registry_reader;

COMMIT;

-- The model catalog in firefoundry: a foreign server that is this same instance, and who may use it.
--
-- postgres_fdw lets a role that is no superuser connect only with a password from its user mapping, and only if the server did ask for it:
-- pg_hba.conf must say scram-sha-256 (not trust, not peer) for `brk_registry_reader` on database `broker_registry` at the address used.
-- The server is addressed directly, never through firepool: a query that holds a pooled connection must not wait for another one.

\set VERBOSITY terse
BEGIN;

-- Default address: the server's first Unix socket, which is half the cost of TCP; loopback where there is none.
WITH socket (dir) AS (
  SELECT btrim(split_part(current_setting('unix_socket_directories'), ',', 1), ' "')
)
SELECT set_config('firepool.fdw_host', coalesce(nullif(:'fdw_host', ''), nullif(dir, ''), '127.0.0.1'), true),
       set_config('firepool.fdw_port', coalesce(nullif(:'fdw_port', ''), current_setting('port')), true),
       set_config('firepool.reader_password', :'registry_reader_password', true)
FROM socket \g /dev/null

DO $$
DECLARE
  want record;
  have text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'brk_registry_server') THEN
    CREATE SERVER brk_registry_server FOREIGN DATA WRAPPER postgres_fdw;
  END IF;
  FOR want IN SELECT * FROM (VALUES
    ('host', current_setting('firepool.fdw_host')),
    ('port', current_setting('firepool.fdw_port')),
    ('dbname', 'broker_registry'),
    -- read-only here; the other end is read-only as well
    ('updatable', 'false'),
    -- A kept connection would cost a second backend for every pooled connection that ever read the catalog. The broker caches what it
    -- reads for minutes, so connecting again is the cheaper of the two.
    ('keep_connections', 'off'),
    ('connect_timeout', '5'),
    ('application_name', 'brk_registry')
  ) AS options (name, value) LOOP
    SELECT option_value INTO have
    FROM pg_foreign_server CROSS JOIN LATERAL pg_options_to_table(srvoptions)
    WHERE srvname = 'brk_registry_server' AND option_name = want.name;
    IF have IS DISTINCT FROM want.value THEN
      EXECUTE format('ALTER SERVER brk_registry_server OPTIONS (%s %I %L)',
                     CASE WHEN have IS NULL THEN 'ADD' ELSE 'SET' END, want.name, want.value);
    END IF;
  END LOOP;
END
$$;

-- Mappings for firebroker, fireread and firebrand, and for nobody else: not for postgres (so a superuser cannot query these tables), not for
-- fireinsert. All three arrive as brk_registry_reader, because fireread may not connect to broker_registry and firebroker must
-- not write through a read-only window.
--
-- Its password is the variable's, else the one in the mappings, else a fresh random one (2 x 122 bits) that never leaves the server.
-- Superusers see it, and so does a dump of firefoundry. A mapped role sees its own mapping's options only if it has USAGE on the
-- server; reading foreign tables needs none. Only firebrand, which owns the catalog anyway, gets it, to create foreign tables.
DO $$
DECLARE
  mapped name;
  have jsonb;
  secret text := nullif(current_setting('firepool.reader_password'), '');
  fresh text := replace(gen_random_uuid() || '' || gen_random_uuid(), '-', '');
BEGIN
  SELECT coalesce(secret, min(option_value), fresh) INTO secret
  FROM pg_user_mappings CROSS JOIN LATERAL pg_options_to_table(umoptions)
  WHERE srvname = 'brk_registry_server' AND option_name = 'password' AND usename IN ('firebroker', 'fireread', 'firebrand');

  PERFORM pg_temp.set_password('brk_registry_reader', secret);
  FOREACH mapped IN ARRAY ARRAY['firebroker', 'fireread', 'firebrand'] LOOP
    SELECT coalesce((SELECT jsonb_object_agg(option_name, option_value) FROM pg_options_to_table(umoptions)), '{}') INTO have
    FROM pg_user_mappings WHERE srvname = 'brk_registry_server' AND usename = mapped;
    IF have = jsonb_build_object('user', 'brk_registry_reader', 'password', secret) THEN
      CONTINUE;
    END IF;
    EXECUTE format('DROP USER MAPPING IF EXISTS FOR %I SERVER brk_registry_server', mapped);
    EXECUTE format('CREATE USER MAPPING FOR %I SERVER brk_registry_server OPTIONS (user %L, password %L)',
                   mapped, 'brk_registry_reader', secret);
  END LOOP;
END
$$;

REVOKE ALL ON FOREIGN SERVER brk_registry_server FROM PUBLIC, fireinsert, firebroker, fireread;
GRANT USAGE ON FOREIGN SERVER brk_registry_server TO firebrand;

COMMIT;
\set VERBOSITY default

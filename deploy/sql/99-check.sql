-- Reads the catalog once as fireread does. A warning, not an error: everything is in place, only the door is not open yet.

DO $$
BEGIN
  SET LOCAL ROLE fireread;
  PERFORM count(*) FROM brk_registry.hosting_provider;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'the model catalog cannot be read through brk_registry: %', SQLERRM
    USING HINT = 'pg_hba.conf must ask brk_registry_reader for a password (scram-sha-256) on database broker_registry at the '
                 'foreign server''s address; -v fdw_host=... -v fdw_port=... change the address.';
END
$$;

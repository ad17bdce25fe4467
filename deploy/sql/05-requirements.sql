-- Refuses to start with less than it needs, before anything has changed.

SELECT coalesce(string_agg(name || ' (or the environment variable ' || upper(name) || ')', ', '), '') AS missing
FROM (VALUES ('fireinsert_password', :'fireinsert_password' = ''),
             ('firebroker_password', :'firebroker_password' = ''),
             ('fireread_password', :'fireread_password' = ''),
             ('firebrand_password', :'firebrand_password' = '')) AS required (name, absent)
WHERE absent \gset

SELECT set_config('firepool.missing', :'missing', false) \g /dev/null
DO $$
BEGIN
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE EXCEPTION 'the bootstrap must run as a superuser, not as "%"', current_user;
  END IF;
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'PostgreSQL 14 or later is required, this is %', current_setting('server_version');
  END IF;
  IF current_setting('firepool.missing') <> '' THEN
    RAISE EXCEPTION 'missing or empty: %', current_setting('firepool.missing')
      USING HINT = 'Set the environment variable for psql, or pass -v name=value.';
  END IF;
END
$$;

-- Passwords. A role that has the wanted password already is not touched: a new salt at every run would make a run that changes nothing
-- look like a change, and would end the validity of SCRAM keys that a proxy remembers. A changed variable is applied.

\set VERBOSITY terse

-- HMAC's key, padded to SHA-256's block of 64 bytes and combined with the pad byte (RFC 2104).
CREATE OR REPLACE FUNCTION pg_temp.hmac_pad(key bytea, pad int) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  padded bytea := CASE WHEN length(key) > 64 THEN sha256(key) ELSE key END;
BEGIN
  padded := padded || decode(repeat('00', 64 - length(padded)), 'hex');
  FOR i IN 0..63 LOOP
    padded := set_byte(padded, i, get_byte(padded, i) # pad);
  END LOOP;
  RETURN padded;
END
$$;

CREATE OR REPLACE FUNCTION pg_temp.hmac_sha256(key bytea, message bytea) RETURNS bytea LANGUAGE sql AS $$
  SELECT sha256(pg_temp.hmac_pad(key, x'5c'::int) || sha256(pg_temp.hmac_pad(key, x'36'::int) || message))
$$;

-- Whether a SCRAM verifier (RFC 5803, as pg_authid keeps it) is that of this password. A non-ASCII password that SASLprep would change
-- counts as different: it is then set again, which is correct, only not silent in a dump.
CREATE OR REPLACE FUNCTION pg_temp.verifier_is_of(verifier text, password text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  part text[] := regexp_match(verifier, '^SCRAM-SHA-256\$(\d+):([^$:]+)\$([^$:]+):([^$:]+)$');
  key bytea := convert_to(password, 'UTF8');
  inner_pad bytea := pg_temp.hmac_pad(key, x'36'::int);
  outer_pad bytea := pg_temp.hmac_pad(key, x'5c'::int);
  round bytea;
  total bit(256);
  salted bytea := decode(repeat('00', 32), 'hex');
BEGIN
  IF part IS NULL THEN
    RETURN false;
  END IF;
  -- PBKDF2 with one block, RFC 5802's Hi()
  round := sha256(outer_pad || sha256(inner_pad || decode(part[2], 'base64') || '\x00000001'::bytea));
  total := ('x' || encode(round, 'hex'))::bit(256);
  FOR i IN 2..part[1]::int LOOP
    round := sha256(outer_pad || sha256(inner_pad || round));
    total := total # ('x' || encode(round, 'hex'))::bit(256);
  END LOOP;
  FOR i IN 0..31 LOOP
    salted := set_byte(salted, i, substring(total FROM i * 8 + 1 FOR 8)::bit(8)::int);
  END LOOP;
  RETURN encode(sha256(pg_temp.hmac_sha256(salted, 'Client Key')), 'base64') = part[3];
END
$$;

CREATE OR REPLACE FUNCTION pg_temp.set_password(role name, password text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  verifier text := (SELECT rolpassword FROM pg_authid WHERE rolname = role);
BEGIN
  IF verifier IS NULL OR (verifier <> password AND NOT pg_temp.verifier_is_of(verifier, password)) THEN
    EXECUTE format('ALTER ROLE %I PASSWORD %L', role, password);
  END IF;
END
$$;

BEGIN;
SELECT pg_temp.set_password('fireinsert', :'fireinsert_password'),
       pg_temp.set_password('firebroker', :'firebroker_password'),
       pg_temp.set_password('fireread', :'fireread_password'),
       pg_temp.set_password('firebrand', :'firebrand_password') \g /dev/null
-- The superuser is whoever runs this; without a password given, theirs is nobody's business here.
SELECT pg_temp.set_password(current_user, :'postgres_password') WHERE :'postgres_password' <> '' \g /dev/null
COMMIT;

\set VERBOSITY default

#!/usr/bin/env bash
# Tests of the bootstrap against throwaway clusters of a real PostgreSQL. Needs no arguments, no network and no configuration; runs as
# root (the server then runs as `postgres`) or as an ordinary user. PG_BINDIR chooses an installation.
# The last line says "N passed, N failed"; the exit status is 0 only if nothing failed.
set -uo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
initdb_script=$here/../docker/initdb/10-firefoundry.sh

# shellcheck source=test-lib.sh
. "$here/test-lib.sh"

# -------------------------------------------------------------------------------------------------------------------- chapters

test_first_runs() {
  local output before
  before=$(sql postgres postgres 'SELECT count(*) FROM pg_roles')
  output=$(env -u FIREREAD_PASSWORD -u FIREBRAND_PASSWORD "$BASH" -c "$(declare -f apply); apply" 2>&1)
  equals "without two passwords it stops with psql's status for a failed script" 3 $?
  contains "it names the first missing variable" "fireread_password (or the environment variable FIREREAD_PASSWORD)" "$output"
  contains "it names the second missing variable" "firebrand_password" "$output"
  equals "it made no role before it stopped" "$before" "$(sql postgres postgres 'SELECT count(*) FROM pg_roles')"
  output=$(apply -v fireinsert_password= 2>&1)
  contains "an empty password counts as missing" "missing or empty: fireinsert_password" "$output"

  output=$(apply 2>&1)
  equals "the first run succeeds and says one line" "firepool bootstrap: done" "$output"
  dump >"$work/first.sql"
  output=$(apply -a -e 2>&1)
  equals "the second run, told to echo, says only that line after its first settings" \
    "firepool bootstrap: done" "$(tail -n 1 <<<"$output")"
  equals "neither echoes a password" 0 "$(grep -c 'changeme\|-secret' <<<"$output")"
  equals "nor an error or a warning" 0 "$(grep -c 'ERROR\|WARNING\|NOTICE' <<<"$output")"
  dump >"$work/second.sql"
  if output=$(diff "$work/first.sql" "$work/second.sql"); then
    pass "pg_dumpall is the same after the second run ($(wc -l <"$work/first.sql") lines)"
  else
    fail "pg_dumpall is the same after the second run" "$output"
  fi
  apply >/dev/null 2>&1 & apply >/dev/null 2>&1
  equals "of two runs at once the first succeeds" 0 $?
  wait $!
  equals "of two runs at once the second succeeds" 0 $?
}

test_passwords() {
  local user before
  equals "every role has a SCRAM verifier" "5" \
    "$(sql postgres postgres "SELECT count(*) FROM pg_authid WHERE rolname ~ '^(fire|brk_)' AND rolpassword LIKE 'SCRAM-SHA-256\$4096:%'")"
  for user in fireinsert firebroker fireread firebrand; do
    equals "$user logs in with its password" "$user" "$(sql "$user" firefoundry 'SELECT current_user')"
  done
  contains "a wrong password is refused" "password authentication failed" \
    "$(FIREREAD_PASSWORD=wrong sql fireread firefoundry 'SELECT 1')"

  before=$(sql postgres postgres "SELECT rolname, rolpassword FROM pg_authid WHERE rolname <> 'fireread' ORDER BY 1")
  succeeds "a run with another password for fireread" env FIREREAD_PASSWORD="it's new" "$BASH" -c "$(declare -f apply); apply"
  equals "the new password is in force, quote and all" 1 "$(FIREREAD_PASSWORD="it's new" sql fireread firefoundry 'SELECT 1')"
  contains "the old one is not" "password authentication failed" "$(sql fireread firefoundry 'SELECT 1')"
  equals "no other verifier has changed" "$before" \
    "$(sql postgres postgres "SELECT rolname, rolpassword FROM pg_authid WHERE rolname <> 'fireread' ORDER BY 1")"
  succeeds "a run with another password for the superuser" apply -v postgres_password=superuser-secret
  contains "which is in force" "password authentication failed" "$(sql postgres postgres 'SELECT 1')"
  succeeds "a run without one" env -u POSTGRES_PASSWORD PGPASSWORD=superuser-secret \
    "$bin/psql" -X -w -h "$socket" -p "$port" -U postgres -d postgres -f "$bootstrap"
  equals "leaves it alone" 1 "$(POSTGRES_PASSWORD=superuser-secret sql postgres postgres 'SELECT 1')"
  before=$POSTGRES_PASSWORD
  POSTGRES_PASSWORD=superuser-secret apply -v postgres_password="$before" >/dev/null 2>&1
  succeeds "a password of more than 64 bytes" env FIREREAD_PASSWORD="$(printf 'x%.0s' {1..100})" "$BASH" -c "$(declare -f apply); apply"
  before=$(sql postgres postgres "SELECT rolpassword FROM pg_authid WHERE rolname = 'fireread'")
  FIREREAD_PASSWORD=$(printf 'x%.0s' {1..100}) apply >/dev/null 2>&1
  equals "is recognised at the next run" "$before" \
    "$(sql postgres postgres "SELECT rolpassword FROM pg_authid WHERE rolname = 'fireread'")"
  apply >/dev/null 2>&1
  dump >"$work/first.sql"
}

# The queries of FireFoundry's database setup guide, word for word, as the users of its table.
test_guide_queries() {
  local user
  for user in postgres fireinsert fireread; do
    rows "guide: schemas, as $user" "$user" '\dn'
    rows "guide: tables of wm, as $user" "$user" '\dt wm.*'
    rows "guide: working memory records, as $user" "$user" 'SELECT id, name, memory_type, provider, status
FROM wm.working_memory
ORDER BY created_at DESC
LIMIT 10;'
    rows "guide: blob references, as $user" "$user" 'SELECT id, name, blob_key, provider
FROM wm.working_memory
WHERE blob_key IS NOT NULL;'
  done
  for user in firebroker fireread firebrand; do
    rows "guide: LLM providers, as $user" "$user" 'SELECT name, code FROM brk_registry.hosting_provider;'
    rows "guide: models by provider, as $user" "$user" 'SELECT m.name as model, hp.name as provider
FROM brk_registry.model m
JOIN brk_registry.hosted_model hm ON m.id = hm.model_id
JOIN brk_registry.hosting_provider hp ON hm.provider_id = hp.id
ORDER BY hp.name, m.name;'
  done
  for user in postgres firebroker fireread; do
    rows "guide: recent broker requests, as $user" "$user" 'SELECT id, request_id, status, created_at
FROM brk_tracking.broker_request
ORDER BY created_at DESC
LIMIT 10;'
  done
  rows "guide: extensions by default" postgres "SELECT string_agg(extname, ' ') FROM pg_extension WHERE extname IN ('uuid-ossp', 'pg_trgm') HAVING count(*) = 2"
  succeeds "guide: CREATE EXTENSION again" sql postgres firefoundry 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";' 'CREATE EXTENSION IF NOT EXISTS "pg_trgm";'
  equals "every one of the six catalog tables is there and foreign" 6 \
    "$(sql postgres firefoundry "SELECT count(*) FROM pg_class WHERE relkind = 'f' AND relnamespace = 'brk_registry'::regnamespace")"
  succeeds "guide: pg_dump -U postgres firefoundry" env PGPASSWORD="$POSTGRES_PASSWORD" \
    "$bin/pg_dump" -h "$socket" -p "$port" -U postgres -f "$work/backup.sql" firefoundry
  succeeds "fireread can dump everything it may read" env PGPASSWORD="$FIREREAD_PASSWORD" \
    "$bin/pg_dump" -h "$socket" -p "$port" -U fireread -f "$work/backup.sql" firefoundry
}

test_entity() {
  local node='e0000000-0000-4000-8000-000000000001'
  equals "entity.node and entity.edge are partitioned" 2 \
    "$(sql postgres firefoundry "SELECT count(*) FROM pg_partitioned_table WHERE partrelid IN ('entity.node'::regclass, 'entity.edge'::regclass)")"
  equals "fireread walks the graph" "3 collect-figures,draft-summary,review" \
    "$(sql fireread firefoundry "SELECT count(*) || ' ' || string_agg(name, ',') FROM entity.get_connected_nodes_with_io('$node')")"
  equals "the second page has the rest, and the number of all" "review 3" \
    "$(sql fireread firefoundry "SELECT name || ' ' || total FROM entity.get_connected_nodes_page('$node', 2, 2)")"
  equals "a cycle ends" 3 "$(sql fireinsert firefoundry BEGIN \
    "INSERT INTO entity.edge (app_id, from_node_id, from_node_type, to_node_id, to_node_type, general_type_name, specific_type_name, position)
     SELECT app_id, 'e0000000-0000-4000-8000-000000000004', 'x', id, 'x', 'Calls', 'Back', 1 FROM entity.node WHERE id = '$node'" \
    "SELECT count(*) FROM entity.get_connected_nodes_with_io('e0000000-0000-4000-8000-000000000004', 50)" ROLLBACK)"
  equals "edges are numbered one after the other" "3 4" "$(sql fireinsert firefoundry BEGIN \
    "SELECT position FROM entity.create_edge_with_incrementing_pos('a0000000-0000-4000-8000-000000000001', '$node', 'e0000000-0000-4000-8000-000000000004', 'Calls', 'Calls')" \
    "SELECT position FROM entity.create_edge_with_incrementing_pos('a0000000-0000-4000-8000-000000000001', '$node', 'e0000000-0000-4000-8000-000000000002', 'Calls', 'Calls')" \
    ROLLBACK | paste -sd' ')"
  refused 23503 fireinsert firefoundry \
    "SELECT entity.create_edge_with_incrementing_pos('a0000000-0000-4000-8000-000000000001', '$node', gen_random_uuid(), 'Calls', 'Calls')"
  equals "deleting a node deletes its edges" "1 0" "$(sql fireinsert firefoundry BEGIN \
    "WITH d AS (DELETE FROM entity.node WHERE id = 'e0000000-0000-4000-8000-000000000003' RETURNING 1) SELECT count(*) FROM d" \
    "SELECT count(*) FROM entity.edge WHERE 'e0000000-0000-4000-8000-000000000003' IN (from_node_id, to_node_id)" ROLLBACK | paste -sd' ')"
  rows "the Console's views answer" fireread \
    "SELECT * FROM console.get_nodes_by_entity_breadcrumb('e0000000-0000-4000-8000-000000000003')"
}

test_rights() {
  local table
  # fireread reads everything and changes nothing
  equals "fireread can read every table of every schema" "" "$(sql postgres firefoundry "
    SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^(pg_|information_schema)' AND c.relkind IN ('r', 'p', 'v', 'f') AND NOT has_table_privilege('fireread', c.oid, 'SELECT')")"
  equals "no other right of fireread on any relation" "" "$(sql postgres firefoundry "
    SELECT c.oid::regclass, p FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
    WHERE c.relkind IN ('r', 'p', 'v', 'f') AND has_table_privilege('fireread', c.oid, p)
      AND c.relnamespace <> 'pg_catalog'::regnamespace
    UNION ALL SELECT c.oid::regclass, 'USAGE' FROM pg_class c
    WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege('fireread', c.oid, 'USAGE, UPDATE') END")"
  equals "fireread may create in no schema" "" "$(sql postgres firefoundry "SELECT nspname FROM pg_namespace WHERE has_schema_privilege('fireread', oid, 'CREATE')")"
  equals "fireread owns nothing and belongs to no role" "0" "$(sql postgres firefoundry "
    SELECT (SELECT count(*) FROM pg_shdepend -- a user mapping counts as owned
            WHERE refobjid = 'fireread'::regrole AND deptype = 'o' AND classid <> 'pg_user_mapping'::regclass)
         + (SELECT count(*) FROM pg_auth_members WHERE member = 'fireread'::regrole)")"
  equals "fireread starts read-only" on "$(sql fireread firefoundry 'SHOW transaction_read_only')"
  refused 42501 fireread firefoundry "INSERT INTO wm.memory_content VALUES (gen_random_uuid())"
  refused 42501 fireread firefoundry "UPDATE brk_tracking.broker_request SET status = 'failed'"
  refused 42501 fireread firefoundry "DELETE FROM entity.node"
  refused 42501 fireread firefoundry "TRUNCATE wm.working_memory CASCADE"
  refused 42501 fireread firefoundry "SELECT * FROM wm.working_memory FOR UPDATE"
  refused 42501 fireread firefoundry "SELECT nextval('brk_tracking.broker_request_id_seq')"
  refused 42501 fireread firefoundry "CREATE TABLE public.t (i int)"
  refused 42501 fireread firefoundry "CREATE TABLE wm.t (i int)"
  refused 42501 fireread firefoundry "CREATE TEMPORARY TABLE t (i int)"
  refused 42501 fireread firefoundry "CREATE SCHEMA s"
  refused 42501 fireread firefoundry "SELECT lo_create(0)"
  refused 42501 fireread firefoundry "SELECT lo_from_bytea(0, 'x')"
  refused 42501 fireread firefoundry "SELECT pg_notify('c', 'x')"
  refused 42501 fireread firefoundry "SELECT pg_logical_emit_message(false, 'p', 'x')"
  refused 42501 fireread firefoundry "SELECT pg_terminate_backend(pg_backend_pid())"
  refused 42501 fireread firefoundry "SELECT entity.create_edge_with_incrementing_pos(NULL, NULL, NULL, NULL, NULL)"
  refused 42501 fireread firefoundry "SET ROLE firebrand"

  # application services
  for table in wm.working_memory entity.node console.\"user\" document_processing.cache websearch.search_logs notification.provider; do
    allowed fireinsert firefoundry "SELECT count(*) FROM $table"
    allowed fireinsert firefoundry "DELETE FROM $table WHERE false"
  done
  allowed fireinsert firefoundry "INSERT INTO wm.working_memory (memory_type, name, description, provider) VALUES ('file', 'n', 'd', 'git') RETURNING id"
  allowed fireinsert firefoundry "INSERT INTO entity.node (id, app_id, name, general_type_name, specific_type_name) VALUES ('e0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'n', 'g', 's') ON CONFLICT (id, graph_name) DO UPDATE SET name = excluded.name"
  allowed fireinsert firefoundry "UPDATE entity.node_io SET progress = progress || '{}'"
  allowed fireinsert firefoundry "INSERT INTO websearch.search_logs (query, provider, success) VALUES ('q', 'p', true)"
  allowed fireinsert firefoundry "CREATE TEMPORARY TABLE t (i int)"
  allowed fireinsert firefoundry "SELECT lo_create(0), pg_notify('c', 'x')"
  refused 42501 fireinsert firefoundry "SELECT * FROM brk_registry.model"
  refused 42501 fireinsert firefoundry "INSERT INTO brk_registry.model (id) VALUES (1)"
  refused 42501 fireinsert firefoundry "SELECT * FROM brk_tracking.broker_request"
  refused 42501 fireinsert firefoundry "CREATE TABLE wm.t (i int)"
  refused 42501 fireinsert firefoundry "TRUNCATE wm.memory_content"

  # broker
  allowed firebroker firefoundry "INSERT INTO brk_tracking.broker_request (semantic_label) VALUES ('x') RETURNING id"
  allowed firebroker firefoundry "INSERT INTO brk_customer.customer (name) VALUES ('x')"
  allowed firebroker firefoundry "UPDATE brk_routing.model_group SET description = ''"
  refused 42501 firebroker firefoundry "UPDATE brk_registry.model SET name = ''"
  refused 42501 firebroker firefoundry "SELECT * FROM wm.working_memory"
  refused 42501 firebroker firefoundry "SELECT * FROM entity.node"
  allowed firebroker broker_registry "INSERT INTO brk_registry.hosting_provider (code, name) VALUES ('x', 'X') RETURNING id"
  allowed firebroker broker_registry "UPDATE brk_registry.model SET name = name"
  refused 42501 firebroker broker_registry "DROP TABLE brk_registry.model"

  # migrations, and what they make later
  allowed firebrand firefoundry "CREATE SCHEMA drizzle CREATE TABLE migrations (i int)"
  allowed firebrand firefoundry "CREATE TABLE entity.node_more PARTITION OF entity.node FOR VALUES IN ('more')"
  allowed firebrand broker_registry "ALTER TABLE brk_registry.model ADD COLUMN c int"
  refused 55000 firebrand firefoundry "UPDATE brk_registry.model SET name = ''"
  sql firebrand firefoundry "CREATE TABLE wm.later (id int GENERATED ALWAYS AS IDENTITY, t text)" \
    "CREATE FUNCTION wm.later_count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM wm.later'"
  allowed fireinsert firefoundry "INSERT INTO wm.later (t) VALUES ('x')"
  equals "a table and a function made later can be used by fireread" 0 "$(sql fireread firefoundry 'SELECT wm.later_count()')"
  refused 42501 fireread firefoundry "INSERT INTO wm.later (t) VALUES ('x')"
  refused 42501 firebroker firefoundry "SELECT * FROM wm.later"
  sql firebrand firefoundry "DROP FUNCTION wm.later_count()" "DROP TABLE wm.later"
}

test_databases() {
  local user
  for user in fireinsert fireread; do
    contains "$user cannot connect to broker_registry" "permission denied for database" "$(sql "$user" broker_registry 'SELECT 1')"
  done
  for user in firebroker firebrand; do
    equals "$user can connect to broker_registry" 1 "$(sql "$user" broker_registry 'SELECT 1')"
  done
  for user in fireinsert firebroker fireread firebrand; do
    contains "$user cannot connect to postgres" "permission denied for database" "$(sql "$user" postgres 'SELECT 1')"
    contains "$user cannot connect to template1" "permission denied for database" "$(sql "$user" template1 'SELECT 1')"
  done
}

test_catalog() {
  local reader mapping='SELECT usename FROM pg_user_mappings ORDER BY 1'
  equals "user mappings are those of firebrand, firebroker and fireread" "firebrand firebroker fireread" \
    "$(sql postgres firefoundry "$mapping" | paste -sd' ')"
  refused 42704 postgres firefoundry "SELECT * FROM brk_registry.model"
  equals "fireread cannot see the password in its mapping" "t" "$(sql fireread firefoundry 'SELECT bool_and(umoptions IS NULL) FROM pg_user_mappings')"
  equals "nor can firebroker" "t" "$(sql firebroker firefoundry 'SELECT bool_and(umoptions IS NULL) FROM pg_user_mappings')"
  refused 42501 fireread firefoundry "SELECT umoptions FROM pg_user_mapping"
  refused 42501 fireread firefoundry "CREATE USER MAPPING FOR fireread SERVER brk_registry_server"
  equals "no connection of the foreign server outlives its transaction" 0 \
    "$(sql postgres postgres "SELECT count(*) FROM pg_stat_activity WHERE usename = 'brk_registry_reader'")"
  reader=$(sql postgres firefoundry "SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE usename = 'fireread' AND option_name = 'password'")
  equals "its password was made up and is long" 64 "${#reader}"
  equals "the reader reads the catalog" 5 "$(POSTGRES_PASSWORD=$reader sql brk_registry_reader broker_registry 'SELECT count(*) FROM brk_registry.model')"
  contains "the reader can do nothing else: write" "42501" \
    "$(POSTGRES_PASSWORD=$reader sql brk_registry_reader broker_registry 'SET default_transaction_read_only = off' 'DELETE FROM brk_registry.model')"
  contains "the reader can do nothing else: connect to firefoundry" "permission denied for database" \
    "$(POSTGRES_PASSWORD=$reader sql brk_registry_reader firefoundry 'SELECT 1')"

  dump >"$work/first.sql" # sequences have moved on
  succeeds "the foreign server can be moved to TCP" apply -v fdw_host=127.0.0.1 -v fdw_port="$port"
  rows "the catalog answers over TCP" fireread "SELECT name, code FROM brk_registry.hosting_provider"
  applies_without_change "a run without the variable moves it back" "$work/first.sql"
  succeeds "the reader's password can be given" env BRK_REGISTRY_READER_PASSWORD=reader-secret "$BASH" -c "$(declare -f apply); apply"
  rows "the catalog answers with it" firebroker "SELECT name, code FROM brk_registry.hosting_provider"
  equals "the reader's given password is in force" 1 "$(POSTGRES_PASSWORD=reader-secret sql brk_registry_reader broker_registry 'SELECT 1')"
  apply >/dev/null 2>&1
  dump >"$work/first.sql"
}

test_drift() {
  sql postgres firefoundry "GRANT INSERT ON wm.working_memory TO fireread" "GRANT CREATE ON SCHEMA wm TO PUBLIC" \
    "ALTER DEFAULT PRIVILEGES FOR ROLE firebrand IN SCHEMA wm GRANT DELETE ON TABLES TO fireread" "ALTER ROLE fireread CREATEDB" \
    "REVOKE SELECT ON entity.node FROM fireread" "DROP USER MAPPING FOR firebroker SERVER brk_registry_server"
  applies_without_change "rights, attributes and mappings that drifted are brought back" "$work/first.sql"
  sql postgres firefoundry "DELETE FROM notification.delivery"
  apply >/dev/null 2>&1
  equals "sample rows that were deleted stay deleted" 0 "$(sql postgres firefoundry 'SELECT count(*) FROM notification.delivery')"
}

test_vector() {
  if [[ $(sql postgres postgres "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") -eq 0 ]]; then
    printf 'note    pgvector is not installed here: its column and indexes are left out\n'
    equals "without pgvector there is no embedding column" 0 \
      "$(sql postgres firefoundry "SELECT count(*) FROM information_schema.columns WHERE column_name = 'embedding'")"
    return
  fi
  printf 'note    pgvector %s\n' "$(sql postgres firefoundry "SELECT extversion FROM pg_extension WHERE extname = 'vector'")"
  equals "the column is vector(1536)" "vector(1536)" "$(sql postgres firefoundry "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'wm.working_memory'::regclass AND attname = 'embedding'")"
  if [[ $(sql postgres firefoundry "SELECT count(*) FROM pg_am WHERE amname = 'hnsw'") -eq 1 ]]; then
    contains "it has the HNSW index" "USING hnsw (embedding vector_cosine_ops)" "$(sql postgres firefoundry "SELECT pg_get_indexdef('wm.embedding_idx'::regclass)")"
    dump >"$work/first.sql"
    sql postgres firefoundry "ALTER TABLE wm.working_memory DROP COLUMN embedding"
    succeeds "guide: extension, column and index on a table without them" sql postgres firefoundry \
      'CREATE EXTENSION IF NOT EXISTS vector;' 'ALTER TABLE wm.working_memory ADD COLUMN embedding vector(1536);' \
      'CREATE INDEX embedding_idx ON wm.working_memory
     USING hnsw (embedding vector_cosine_ops);'
    applies_without_change "a run after that changes nothing" "$work/first.sql"
  fi
  allowed fireinsert firefoundry "UPDATE wm.working_memory SET embedding = array_fill(0.5::real, ARRAY[1536])::vector"
  allowed fireinsert firefoundry "INSERT INTO entity.vector_similarity (node_id, graph_name, embedding) SELECT id, graph_name, array_fill(0.5::real, ARRAY[3072])::vector(3072) FROM entity.node LIMIT 1"
  succeeds "fireread searches by distance" sql fireread firefoundry \
    "SELECT id FROM wm.working_memory ORDER BY embedding <=> array_fill(0.5::real, ARRAY[1536])::vector LIMIT 3"
}

test_secrecy() { # test_secrecy NAME: neither the log nor pg_stat_statements of cluster NAME knows a password
  local reader secret found=0 statements
  reader=$(sql postgres firefoundry "SELECT option_value FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE usename = 'fireread' AND option_name = 'password'")
  statements=$(sql postgres postgres 'SELECT query FROM pg_stat_statements')
  for secret in "$FIREINSERT_PASSWORD" "$FIREBROKER_PASSWORD" "$FIREREAD_PASSWORD" "$FIREBRAND_PASSWORD" "$POSTGRES_PASSWORD" \
    "it's new" "it''s new" superuser-secret reader-secret "$reader"; do
    found=$((found + $(grep -cF -- "$secret" "$work/$1/log") + $(grep -cF -- "$secret" <<<"$statements")))
  done
  equals "the log and pg_stat_statements contain no password, although everything is logged" 0 "$found"
  contains "the log does contain statements" "LOG:  duration" "$(grep -m 1 'LOG:  duration' "$work/$1/log")"
}

# The official image: a temporary server on the Unix socket only, the script sourced or executed, then the real server.
test_image() {
  local environment=(env -i PATH="$bin:$PATH" HOME="$work" POSTGRES_USER=postgres POSTGRES_PASSWORD="$POSTGRES_PASSWORD"
    PGHOST="$socket" PGPORT="$port" FIREFOUNDRY_SQL_DIR="$here"
    FIREINSERT_PASSWORD="$FIREINSERT_PASSWORD" FIREBROKER_PASSWORD="$FIREBROKER_PASSWORD"
    FIREREAD_PASSWORD="$FIREREAD_PASSWORD" FIREBRAND_PASSWORD="$FIREBRAND_PASSWORD")
  local output
  output=$("${environment[@]}" env -u FIREBRAND_PASSWORD bash -Eeo pipefail -c ". $initdb_script; echo went on" 2>&1)
  equals "image: a missing password stops the entrypoint" 3 $?
  contains "image: with a clear message" "FIREBRAND_PASSWORD" "$output"
  # the image creates POSTGRES_DB before it runs the scripts
  sql postgres postgres 'CREATE DATABASE firefoundry'
  output=$("${environment[@]}" bash -Eeo pipefail -c ". $initdb_script; echo went on" 2>&1)
  equals "image: sourced by the entrypoint's shell" $'firepool bootstrap: done\nwent on' "$output"
  equals "image: executed, once more" "firepool bootstrap: done" "$("${environment[@]}" "$initdb_script" 2>&1)"
  stop image
  printf 'host all all all scram-sha-256\n' >>"$work/image/data/pg_hba.conf"
  start image 127.0.0.1
  apply >/dev/null 2>&1 # the port is another one now; in a container it is not
  rows "image: the catalog answers after the restart" fireread 'SELECT name, code FROM brk_registry.hosting_provider;'
  socket=127.0.0.1
  equals "image: services log in over TCP" 4 "$(sql fireinsert firefoundry 'SELECT count(*) FROM wm.working_memory')"
  contains "image: nobody is trusted" "password authentication failed" "$(FIREINSERT_PASSWORD=wrong sql fireinsert firefoundry 'SELECT 1')"
  stop image
}

test_without_tables() {
  local output
  output=$(apply -v service_tables=off 2>&1)
  equals "service_tables=off: one line" "firepool bootstrap: done" "$output"
  equals "service_tables=off: schemas without tables" "10 0" "$(sql postgres firefoundry "
    SELECT count(DISTINCT n.oid) || ' ' || count(c.oid) FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
    WHERE n.nspowner = 'firebrand'::regrole")"
  dump >"$work/first.sql"
  applies_without_change "service_tables=off: a second run changes nothing" "$work/first.sql" -v service_tables=off
  sql firebrand firefoundry 'CREATE TABLE wm.working_memory (id int)'
  allowed fireinsert firefoundry 'INSERT INTO wm.working_memory VALUES (1)'
  allowed fireread firefoundry 'SELECT * FROM wm.working_memory'
  sql firebrand firefoundry 'DROP TABLE wm.working_memory'
  equals "sample_data=off: tables" "" "$(apply -v sample_data=off 2>&1 | grep -v WARNING | grep -v HINT | grep -v 'DETAIL\|bootstrap: done')"
  equals "sample_data=off: no rows" 0 "$(sql postgres firefoundry 'SELECT count(*) FROM wm.working_memory')"
  output=$(apply 2>&1)
  contains "a pg_hba.conf that trusts everybody is reported" "the model catalog cannot be read through brk_registry" "$output"
  contains "with what to do about it" "scram-sha-256" "$output"
  stop trusting
}

# ------------------------------------------------------------------------------------------------------------------------ main

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for variable in ${!PG*}; do [[ $variable == PG_BINDIR ]] || unset "$variable"; done
unset BRK_REGISTRY_READER_PASSWORD
export FIREINSERT_PASSWORD=changeme-fireinsert FIREBROKER_PASSWORD=changeme-firebroker FIREREAD_PASSWORD=changeme-fireread
export FIREBRAND_PASSWORD="changeme'firebrand \\ \$x" POSTGRES_PASSWORD=changeme-postgres

bin=$(find_binaries)
[[ -n $bin ]] || give_up "find initdb and pg_ctl (set PG_BINDIR)"
work=$(mktemp -d "${TMPDIR:-/tmp}/firepool-sql.XXXXXX") && chmod 755 "$work"
export bin socket port bootstrap # for the shells that run `apply` with another environment

printf 'note    %s\n' "$("$bin/postgres" --version)"
new_cluster main scram-sha-256
start main 127.0.0.1 log_statement=all log_min_duration_statement=0 log_duration=on \
  shared_preload_libraries=pg_stat_statements,auto_explain pg_stat_statements.track=all auto_explain.log_min_duration=0 \
  auto_explain.log_nested_statements=on
sql postgres postgres 'CREATE EXTENSION pg_stat_statements'
test_first_runs
test_passwords
test_guide_queries
test_entity
test_rights
test_databases
test_catalog
test_drift
test_vector
test_secrecy main
stop main

new_cluster image scram-sha-256
start image ''
test_image

new_cluster trusting trust
start trusting ''
test_without_tables

[[ $failed -eq 0 ]]

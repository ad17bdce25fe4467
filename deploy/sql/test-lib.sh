# shellcheck shell=bash
# What test.sh is written with: reporting, throwaway clusters, statements as a given user. Included, not run.
# test.sh sets `here`, `bin` and `work`; `socket` and `port` are those of the cluster started last.

here=${here:?set by test.sh}
bin=
bootstrap=$here/bootstrap.sql
passed=0
failed=0
work=
clusters=()
socket=
port=

# ---------------------------------------------------------------------------------------------------------------- reporting

pass() { passed=$((passed + 1)); printf 'ok      %s\n' "$1"; }
fail() {
  failed=$((failed + 1))
  printf 'FAILED  %s\n' "$1"
  shift
  [[ $# -eq 0 ]] || printf '%s\n' "$@" | head -n 20 | sed 's/^/        /'
}
equals() { if [[ $2 == "$3" ]]; then pass "$1"; else fail "$1" "expected: $2" "found:    $3"; fi; }
contains() { if [[ $3 == *"$2"* ]]; then pass "$1"; else fail "$1" "expected to contain: $2" "found: $3"; fi; }
succeeds() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then pass "$name"; else fail "$name" "$output"; fi
}

# ------------------------------------------------------------------------------------------------------------------ clusters

finish() {
  local data
  for data in ${clusters[@]+"${clusters[@]}"}; do
    as_server "$bin/pg_ctl" stop -D "$data" -m immediate -w -t 20 >/dev/null 2>&1
  done
  [[ -z $work ]] || rm -rf "$work"
  printf '%d passed, %d failed\n' "$passed" "$failed"
}

give_up() {
  fail "$@"
  exit 1
}

find_binaries() {
  local dir
  for dir in "${PG_BINDIR:-}" "$(pg_config --bindir 2>/dev/null)" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    if [[ -n $dir && -x $dir/initdb && -x $dir/pg_ctl ]]; then
      printf '%s' "$dir"
      return
    fi
  done
}

# PostgreSQL refuses to run as root.
as_server() {
  if [[ $(id -u) -eq 0 ]]; then
    (cd / && exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@")
  else
    (cd / && exec "$@")
  fi
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000)) # below Linux's range for outgoing connections
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s' "$port"
      return
    fi
  done
}

# new_cluster NAME AUTH: the official image's initdb, as deploy/compose.yaml configures it when AUTH is scram-sha-256
new_cluster() {
  local dir=$work/$1 output
  mkdir "$dir"
  printf '%s\n' "$POSTGRES_PASSWORD" >"$dir/pw"
  [[ $(id -u) -ne 0 ]] || chown -R postgres:postgres "$dir"
  output=$(as_server "$bin/initdb" -D "$dir/data" --username=postgres --pwfile="$dir/pw" --auth="$2" --no-sync -E UTF8 2>&1) ||
    give_up "initdb" "$output"
  clusters+=("$dir/data")
}

# start NAME LISTEN_ADDRESSES [SETTING...]: from here on psql talks to this cluster
start() {
  local dir=$work/$1 listen=$2 options output
  shift 2
  port=$(free_port)
  options="-c listen_addresses='$listen' -c port=$port -c unix_socket_directories='$dir' -c fsync=off -c max_connections=40"
  [[ $# -eq 0 ]] || options+=$(printf -- ' -c %s' "$@")
  output=$(as_server "$bin/pg_ctl" start -D "$dir/data" -l "$dir/log" -w -t 60 -o "$options" 2>&1) ||
    give_up "start a cluster" "$output" "$(tail -n 5 "$dir/log")"
  socket=$dir
}
stop() { as_server "$bin/pg_ctl" stop -D "$work/$1/data" -m fast -w -t 60 >/dev/null 2>&1; }

# ---------------------------------------------------------------------------------------------------------------- statements

password_of() {
  case $1 in
    fireinsert) printf '%s' "$FIREINSERT_PASSWORD" ;;
    firebroker) printf '%s' "$FIREBROKER_PASSWORD" ;;
    fireread) printf '%s' "$FIREREAD_PASSWORD" ;;
    firebrand) printf '%s' "$FIREBRAND_PASSWORD" ;;
    *) printf '%s' "$POSTGRES_PASSWORD" ;;
  esac
}

# sql USER DATABASE STATEMENT...: each statement in a transaction of its own, rows unadorned, SQLSTATE on error
sql() {
  local user=$1 database=$2 statements=() statement
  shift 2
  for statement in "$@"; do statements+=(-c "$statement"); done
  PGPASSWORD=$(password_of "$user") "$bin/psql" -XqAtw -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate \
    -h "$socket" -p "$port" -U "$user" -d "$database" "${statements[@]}" 2>&1
}

rows() { # rows NAME USER STATEMENT: some come back
  local output
  output=$(sql "$2" firefoundry "$3")
  if [[ -n $output && $output != *ERROR* && $output != *FATAL* ]]; then pass "$1"; else fail "$1" "${output:-no rows}"; fi
}

# refused SQLSTATE USER DATABASE STATEMENT. Where the read-only default would answer first it is switched off first: rights have to hold
# on their own.
refused() {
  local output
  output=$(sql "$2" "$3" 'SET default_transaction_read_only = off' "$4")
  if [[ $output == *"ERROR:  $1"* ]]; then
    pass "$2 in $3 is refused ($1): $4"
  else
    fail "$2 in $3 is refused ($1): $4" "${output:-it went through}"
  fi
}

allowed() { # allowed USER DATABASE STATEMENT, undone afterwards
  local output
  if output=$(sql "$1" "$2" BEGIN "$3" ROLLBACK); then pass "$1 in $2 may: $3"; else fail "$1 in $2 may: $3" "$output"; fi
}

# apply [PSQL ARGUMENT...]: passwords travel in the environment
apply() {
  PGPASSWORD=$POSTGRES_PASSWORD "$bin/psql" -X -w -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U postgres -d postgres "$@" -f "$bootstrap"
}

dump() {
  # \restrict carries a random token; statistics and comments carry none
  PGPASSWORD=$POSTGRES_PASSWORD "$bin/pg_dumpall" -w -h "$socket" -p "$port" -U postgres | grep -Ev '^\\(un)?restrict '
}

applies_without_change() { # applies_without_change NAME BASELINE [PSQL ARGUMENT...]
  local name=$1 baseline=$2 output difference
  shift 2
  output=$(apply "$@" 2>&1) || { fail "$name: exit status" "$output"; return; }
  dump >"$work/now.sql"
  if difference=$(diff "$baseline" "$work/now.sql"); then pass "$name"; else fail "$name" "$difference"; fi
}

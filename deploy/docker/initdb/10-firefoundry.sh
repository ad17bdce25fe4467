#!/usr/bin/env bash
# Init script of the official PostgreSQL image (and of images built on it): makes FireFoundry's roles, databases and schemas at the
# first start, while the image's temporary server listens on the Unix socket only.
#
# The image runs an executable file and sources any other, in a shell with options of its own; hence the subshell.
# Passwords arrive in the environment, under the names that firepool's configuration uses: FIREINSERT_PASSWORD,
# FIREBROKER_PASSWORD, FIREREAD_PASSWORD, FIREBRAND_PASSWORD and POSTGRES_PASSWORD.
(
  set -euo pipefail
  # The entrypoint has set it for its scripts; a later `docker exec` has not.
  export PGPASSWORD="${PGPASSWORD:-${POSTGRES_PASSWORD:-}}"
  psql --no-psqlrc --no-password --quiet --set=ON_ERROR_STOP=1 \
    --username="${POSTGRES_USER:-postgres}" --dbname=postgres \
    --set=service_tables="${FIREFOUNDRY_SERVICE_TABLES:-on}" --set=sample_data="${FIREFOUNDRY_SAMPLE_DATA:-on}" \
    --file="${FIREFOUNDRY_SQL_DIR:-/opt/firefoundry/sql}/bootstrap.sql"
)

-- The bootstrap of FireFoundry Core's PostgreSQL instance: roles, databases, schemas, rights, the model catalog.
--
--   psql -X -v ON_ERROR_STOP=1 -d postgres -f bootstrap.sql
--
-- Run it as a superuser. It may be run again at any time: what is there already is left alone, what has drifted
-- (rights, passwords, the foreign server's address) is brought back. README.md in this folder lists the variables.

\set ON_ERROR_STOP on
\set QUIET on
-- Echoing would print passwords after psql has put them into a statement.
\set ECHO none

-- A password comes from `-v fireinsert_password=...` or, better, from the environment: arguments show up in `ps`.
\if :{?fireinsert_password}
\else
  \set fireinsert_password ''
  \getenv fireinsert_password FIREINSERT_PASSWORD
\endif
\if :{?firebroker_password}
\else
  \set firebroker_password ''
  \getenv firebroker_password FIREBROKER_PASSWORD
\endif
\if :{?fireread_password}
\else
  \set fireread_password ''
  \getenv fireread_password FIREREAD_PASSWORD
\endif
\if :{?firebrand_password}
\else
  \set firebrand_password ''
  \getenv firebrand_password FIREBRAND_PASSWORD
\endif
\if :{?postgres_password}
\else
  \set postgres_password ''
  \getenv postgres_password POSTGRES_PASSWORD
\endif
\if :{?registry_reader_password}
\else
  \set registry_reader_password ''
  \getenv registry_reader_password BRK_REGISTRY_READER_PASSWORD
\endif
\if :{?fdw_host}
\else
  \set fdw_host ''
\endif
\if :{?fdw_port}
\else
  \set fdw_port ''
\endif
\if :{?service_tables}
\else
  \set service_tables on
\endif
\if :{?sample_data}
\else
  \set sample_data on
\endif

\ir 00-session.sql
\ir 05-requirements.sql

\ir 10-roles.sql
\ir 20-databases.sql

\connect broker_registry
\ir 00-session.sql
\ir 30-registry-schema.sql
\if :service_tables
  \ir 31-registry-tables.sql
\endif
\ir 32-registry-grants.sql
\ir 40-public-functions.sql
\if :service_tables
  \if :sample_data
    \ir 90-registry-sample.sql
  \endif
\endif

\connect firefoundry
\ir 00-session.sql
\ir 25-passwords.sql
\ir 50-extensions.sql
\ir 51-schemas.sql
\ir 60-fdw-server.sql
\if :service_tables
  \ir 52-wm.sql
  \ir 53-entity.sql
  \ir 54-broker.sql
  \ir 55-services.sql
  \ir 61-fdw-tables.sql
\endif
\ir 70-grants.sql
\ir 40-public-functions.sql
\if :service_tables
  \if :sample_data
    \ir 91-sample.sql
  \endif
  \ir 99-check.sql
\endif

\echo 'firepool bootstrap: done'

-- Extensions of firefoundry, in schema public, where the services' unqualified names find them.

BEGIN;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS "pg_trgm";
CREATE EXTENSION IF NOT EXISTS postgres_fdw;

-- pgvector is not part of the standard image. Where it is installed it is used; HNSW came with 0.5, halfvec with 0.7.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS has_vector \gset
\if :has_vector
  CREATE EXTENSION IF NOT EXISTS vector;
\endif
SELECT EXISTS (SELECT FROM pg_am WHERE amname = 'hnsw') AS has_hnsw,
       to_regtype('public.halfvec') IS NOT NULL AS has_halfvec \gset
COMMIT;

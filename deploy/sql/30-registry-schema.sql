-- The schema of the model catalog, in broker_registry.

BEGIN;
CREATE SCHEMA IF NOT EXISTS brk_registry AUTHORIZATION firebrand;
-- PostgreSQL 14 and clusters upgraded from it let PUBLIC create here.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
COMMIT;

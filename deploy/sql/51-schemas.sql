-- The schemas of firefoundry, all owned by firebrand. The setup guide names the first four; the others are of services that came later.

BEGIN;
CREATE SCHEMA IF NOT EXISTS wm AUTHORIZATION firebrand;                  -- Context Service: working memory
CREATE SCHEMA IF NOT EXISTS entity AUTHORIZATION firebrand;              -- Entity Service: graph of nodes and edges
CREATE SCHEMA IF NOT EXISTS brk_tracking AUTHORIZATION firebrand;        -- FF Broker: what was asked of which model
CREATE SCHEMA IF NOT EXISTS brk_registry AUTHORIZATION firebrand;        -- FF Broker: the model catalog, foreign tables
CREATE SCHEMA IF NOT EXISTS brk_customer AUTHORIZATION firebrand;        -- FF Broker: accounts and deployments
CREATE SCHEMA IF NOT EXISTS brk_routing AUTHORIZATION firebrand;         -- FF Broker: model groups
CREATE SCHEMA IF NOT EXISTS console AUTHORIZATION firebrand;             -- FF Console
CREATE SCHEMA IF NOT EXISTS document_processing AUTHORIZATION firebrand; -- Doc Proc Service
CREATE SCHEMA IF NOT EXISTS websearch AUTHORIZATION firebrand;           -- Web Search Service
CREATE SCHEMA IF NOT EXISTS notification AUTHORIZATION firebrand;        -- Notification Service

-- A schema that was there before may belong to somebody else.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['wm', 'entity', 'brk_tracking', 'brk_registry', 'brk_customer', 'brk_routing', 'console',
                              'document_processing', 'websearch', 'notification'] LOOP
    EXECUTE format('ALTER SCHEMA %I OWNER TO firebrand', name);
  END LOOP;
END
$$;
COMMIT;

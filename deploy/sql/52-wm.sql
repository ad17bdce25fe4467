-- Working memory, as the Context Service's documentation prints it.

BEGIN;
SET LOCAL ROLE firebrand;

CREATE TABLE IF NOT EXISTS wm.working_memory (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  entity_node_id uuid,
  memory_type text NOT NULL,
  name text NOT NULL,
  description text NOT NULL,
  reasoning text,
  metadata jsonb,
  provider text NOT NULL CHECK (provider IN ('postgres', 'azure_blob', 'git')),
  lookup_info jsonb,
  blob_key text,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
  action_log jsonb NOT NULL DEFAULT '{"actions": []}',
  created_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS working_memory_entity_node_id_idx ON wm.working_memory (entity_node_id);
CREATE INDEX IF NOT EXISTS working_memory_created_at_idx ON wm.working_memory (created_at);

CREATE TABLE IF NOT EXISTS wm.memory_content (
  working_memory_id uuid PRIMARY KEY REFERENCES wm.working_memory (id) ON DELETE CASCADE,
  content jsonb
);

-- The setup guide's optional part: same column, same index, under the same name.
\if :has_vector
  ALTER TABLE wm.working_memory ADD COLUMN IF NOT EXISTS embedding vector(1536);
\endif
\if :has_hnsw
  CREATE INDEX IF NOT EXISTS embedding_idx ON wm.working_memory USING hnsw (embedding vector_cosine_ops);
\endif

COMMIT;

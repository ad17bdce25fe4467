-- The entity graph. Where FireFoundry's documents disagree:
--  * Columns are those of the client's data transfer objects (general_type_name, archive, created, modified), which the
--    documented SQL uses; the newer REST names (is_archived, created_at, source_node_id) are a view of the same things.
--  * Both tables are partitioned by graph name. A unique constraint of a partitioned table has to contain the partition key, so the documented
--    upsert keys (id) and (app_id, name) have graph_name as a further column, and so have the foreign keys.

BEGIN;
SET LOCAL ROLE firebrand;

DO $$
BEGIN
  IF to_regtype('entity.interface') IS NULL THEN
    CREATE TYPE entity.interface AS ENUM ('None', 'gRPC', 'HTTP', 'WebSocket');
  END IF;
  IF to_regtype('entity.status') IS NULL THEN
    CREATE TYPE entity.status AS ENUM ('Pending', 'InProgress', 'Completed', 'Failed', 'Cancelled', 'Paused');
  END IF;
END
$$;

CREATE TABLE IF NOT EXISTS entity.node (
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  graph_name text NOT NULL DEFAULT 'default',
  app_id uuid NOT NULL,
  name text,
  general_type_name text NOT NULL,
  general_type_id uuid,
  specific_type_name text NOT NULL,
  specific_type_id uuid,
  schema json,
  grpc_proto text,
  openapi_spec json,
  data jsonb,
  interface entity.interface,
  status entity.status,
  archive boolean NOT NULL DEFAULT false,
  created timestamptz NOT NULL DEFAULT now(),
  modified timestamptz NOT NULL DEFAULT now(),
  metadata json,
  PRIMARY KEY (id, graph_name),
  UNIQUE (app_id, name, graph_name)
) PARTITION BY LIST (graph_name);
CREATE TABLE IF NOT EXISTS entity.node_default PARTITION OF entity.node DEFAULT;
CREATE TABLE IF NOT EXISTS entity.node_news PARTITION OF entity.node FOR VALUES IN ('news');
CREATE INDEX IF NOT EXISTS node_data_idx ON entity.node USING gin (data jsonb_path_ops);
CREATE INDEX IF NOT EXISTS node_created_idx ON entity.node (created);

CREATE TABLE IF NOT EXISTS entity.edge (
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  graph_name text NOT NULL DEFAULT 'default',
  app_id uuid NOT NULL,
  from_node_id uuid NOT NULL,
  from_node_type text NOT NULL,
  to_node_id uuid NOT NULL,
  to_node_type text NOT NULL,
  general_type_name text NOT NULL,
  general_type_id uuid,
  specific_type_name text NOT NULL,
  specific_type_id uuid,
  data jsonb,
  position integer NOT NULL DEFAULT 0,
  archive boolean NOT NULL DEFAULT false,
  created timestamptz NOT NULL DEFAULT now(),
  modified timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id, graph_name),
  UNIQUE (from_node_id, specific_type_name, position, graph_name),
  FOREIGN KEY (from_node_id, graph_name) REFERENCES entity.node (id, graph_name) ON DELETE CASCADE,
  FOREIGN KEY (to_node_id, graph_name) REFERENCES entity.node (id, graph_name) ON DELETE CASCADE
) PARTITION BY LIST (graph_name);
CREATE TABLE IF NOT EXISTS entity.edge_default PARTITION OF entity.edge DEFAULT;
CREATE TABLE IF NOT EXISTS entity.edge_news PARTITION OF entity.edge FOR VALUES IN ('news');
CREATE INDEX IF NOT EXISTS edge_to_node_id_idx ON entity.edge (to_node_id);

CREATE TABLE IF NOT EXISTS entity.node_io (
  node_id uuid PRIMARY KEY,
  graph_name text NOT NULL DEFAULT 'default',
  input jsonb,
  output jsonb,
  progress jsonb NOT NULL DEFAULT '[]',
  FOREIGN KEY (node_id, graph_name) REFERENCES entity.node (id, graph_name) ON DELETE CASCADE
);

-- The guides say halfvec(3072) and vector(3072). An index takes at most 2,000 dimensions of a vector and 4,000 of a halfvec, so halfvec
-- it is; a pgvector older than 0.7 gets vector(3072) and no index.
\if :has_vector
  SELECT CASE WHEN :'has_halfvec' THEN 'halfvec' ELSE 'vector' END AS embedding_type \gset
  CREATE TABLE IF NOT EXISTS entity.vector_similarity (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    node_id uuid NOT NULL,
    graph_name text NOT NULL DEFAULT 'default',
    embedding :embedding_type(3072) NOT NULL,
    metadata jsonb,
    created timestamptz NOT NULL DEFAULT now(),
    modified timestamptz NOT NULL DEFAULT now(),
    archive boolean NOT NULL DEFAULT false,
    FOREIGN KEY (node_id, graph_name) REFERENCES entity.node (id, graph_name) ON DELETE CASCADE
  );
  \if :has_halfvec
    CREATE INDEX IF NOT EXISTS vector_similarity_embedding_idx ON entity.vector_similarity
      USING ivfflat (embedding halfvec_cosine_ops);
  \endif
\endif

-- Edges of one type that leave one node are numbered 1, 2, 3, ... Locking the node makes concurrent callers take turns.
CREATE OR REPLACE FUNCTION entity.create_edge_with_incrementing_pos(
  p_app_id uuid, p_from_node_id uuid, p_to_node_id uuid, p_general_type_name text, p_specific_type_name text,
  p_data jsonb DEFAULT NULL, p_graph_name text DEFAULT 'default'
) RETURNS entity.edge LANGUAGE plpgsql AS $$
DECLARE
  from_type text;
  to_type text;
  made entity.edge;
BEGIN
  SELECT n.specific_type_name INTO from_type
  FROM entity.node AS n WHERE n.id = p_from_node_id AND n.graph_name = p_graph_name
  FOR NO KEY UPDATE;
  SELECT n.specific_type_name INTO to_type
  FROM entity.node AS n WHERE n.id = p_to_node_id AND n.graph_name = p_graph_name;
  IF from_type IS NULL OR to_type IS NULL THEN
    RAISE foreign_key_violation USING MESSAGE = format('no such node in graph "%s": %s',
      p_graph_name, CASE WHEN from_type IS NULL THEN p_from_node_id ELSE p_to_node_id END);
  END IF;

  INSERT INTO entity.edge (graph_name, app_id, from_node_id, from_node_type, to_node_id, to_node_type,
                           general_type_name, specific_type_name, data, position)
  SELECT p_graph_name, p_app_id, p_from_node_id, from_type, p_to_node_id, to_type,
         p_general_type_name, p_specific_type_name, p_data, coalesce(max(e.position), 0) + 1
  FROM entity.edge AS e
  WHERE e.from_node_id = p_from_node_id AND e.specific_type_name = p_specific_type_name AND e.graph_name = p_graph_name
  RETURNING * INTO made;
  RETURN made;
END
$$;

-- Every node that can be reached from one along edges that are not archived, nearest first, each once, with its input and output.
CREATE OR REPLACE FUNCTION entity.get_connected_nodes_with_io(p_node_id uuid, p_max_depth integer DEFAULT 5)
RETURNS TABLE (id uuid, graph_name text, name text, specific_type_name text, status entity.status, depth integer,
               input jsonb, output jsonb, progress jsonb)
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE reached (id, graph_name, depth) AS (
      SELECT n.id, n.graph_name, 0 FROM entity.node AS n WHERE n.id = p_node_id
    UNION -- not ALL: it drops repeated rows; cycles end at the depth limit
      SELECT e.to_node_id, e.graph_name, r.depth + 1
      FROM reached AS r
      JOIN entity.edge AS e ON e.from_node_id = r.id AND e.graph_name = r.graph_name AND NOT e.archive
      WHERE r.depth < p_max_depth
  ), nearest AS (
    SELECT r.id, r.graph_name, min(r.depth) AS depth FROM reached AS r GROUP BY r.id, r.graph_name
  )
  SELECT n.id, n.graph_name, n.name, n.specific_type_name, n.status, r.depth, io.input, io.output, io.progress
  FROM nearest AS r
  JOIN entity.node AS n ON n.id = r.id AND n.graph_name = r.graph_name
  LEFT JOIN entity.node_io AS io ON io.node_id = n.id
  WHERE r.depth > 0 AND NOT n.archive
  ORDER BY r.depth, n.created, n.id
$$;

-- The same nodes page by page, with the number of all of them.
CREATE OR REPLACE FUNCTION entity.get_connected_nodes_page(
  p_node_id uuid, p_limit integer DEFAULT 50, p_offset integer DEFAULT 0, p_max_depth integer DEFAULT 5
) RETURNS TABLE (id uuid, graph_name text, name text, specific_type_name text, status entity.status, depth integer, total bigint)
LANGUAGE sql STABLE AS $$
  SELECT c.id, c.graph_name, c.name, c.specific_type_name, c.status, c.depth, count(*) OVER ()
  FROM entity.get_connected_nodes_with_io(p_node_id, p_max_depth) WITH ORDINALITY
    AS c (id, graph_name, name, specific_type_name, status, depth, input, output, progress, nth)
  ORDER BY c.nth
  LIMIT p_limit OFFSET p_offset
$$;

COMMIT;

-- By which names a statement runs the functions, rules, defaults, conditions, policies and triggers of $1: a grade, a
-- class and an oid each, with colons between them and blanks between the objects. One row for each grade:
--   grade       as in $1
--   names       of functions, relations and types, one a line
--   everywhere  whether it may run without its name in the statement: by an operator, a cast, a name that is odd
--   ddl         whether an event trigger runs it
-- Operators become qualified ones before this is sent: a client's search_path may have others.
WITH RECURSIVE
own AS MATERIALIZED (
  SELECT p.oid, pg_catalog.lower(
    CASE WHEN p.prosrc = '' AND p.prokind <> 'a'::pg_catalog."char" THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END) AS source
  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384::pg_catalog.oid
),
seed AS MATERIALIZED (
  SELECT pg_catalog.split_part(s, ':', 1) AS grade, pg_catalog.split_part(s, ':', 2)::pg_catalog.oid AS class,
    pg_catalog.split_part(s, ':', 3)::pg_catalog.oid AS oid
  FROM pg_catalog.unnest(pg_catalog.string_to_array($1::pg_catalog.text, ' ')) s
),
-- From each of them to all that runs it.
reach AS (
  SELECT grade, class, oid FROM seed
  UNION
  SELECT r.grade, e.class, e.oid FROM reach r CROSS JOIN LATERAL (
    -- What depends on it. A foreign key does not run the other table's triggers, but where it cascades (below).
    SELECT d.classid AS class, d.objid AS oid FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
    WHERE d.refclassid = r.class AND d.refobjid = r.oid AND d.deptype <> 'e'::pg_catalog."char" AND (k.contype IS NULL OR k.contype <> 'f'::pg_catalog."char")
      AND d.classid <> ALL (ARRAY['pg_catalog.pg_type', 'pg_catalog.pg_extension', 'pg_catalog.pg_default_acl']::pg_catalog.regclass[]::pg_catalog.oid[])
      AND (d.classid <> 'pg_catalog.pg_class'::pg_catalog.regclass OR r.class <> 'pg_catalog.pg_class'::pg_catalog.regclass)
    -- A rule, a default, a condition, a policy or a trigger runs with its table, a condition also with its type.
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, ev_class FROM pg_catalog.pg_rewrite
      WHERE r.class = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND oid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, adrelid FROM pg_catalog.pg_attrdef
      WHERE r.class = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND oid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, conrelid FROM pg_catalog.pg_constraint
      WHERE r.class = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND oid = r.oid AND conrelid <> 0::pg_catalog.oid
    UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, contypid FROM pg_catalog.pg_constraint
      WHERE r.class = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND oid = r.oid AND contypid <> 0::pg_catalog.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, polrelid FROM pg_catalog.pg_policy
      WHERE r.class = 'pg_catalog.pg_policy'::pg_catalog.regclass AND oid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, tgrelid FROM pg_catalog.pg_trigger
      WHERE r.class = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND oid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indrelid FROM pg_catalog.pg_index
      WHERE r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND indexrelid = r.oid
    -- A table has its type's conditions, other types have its, a parent has its children's triggers.
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, attrelid FROM pg_catalog.pg_attribute
      WHERE r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND atttypid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid FROM pg_catalog.pg_type
      WHERE r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND r.oid = ANY (ARRAY[typbasetype, typelem])
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, inhparent FROM pg_catalog.pg_inherits
      WHERE r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND inhrelid = r.oid
    UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, confrelid FROM pg_catalog.pg_constraint
      WHERE r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND conrelid = r.oid AND contype = 'f'::pg_catalog."char"
        AND pg_catalog.concat(confdeltype, confupdtype) ~ '[cnd]'
    -- What the body of a function names, it may use. (OFFSET has each name made ready once.)
    UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, o.oid FROM (
        SELECT pg_catalog.lower(name::pg_catalog.text) AS name, name::pg_catalog.text ~ '[^A-Za-z0-9_]' AS odd,
          pg_catalog.concat('[[:<:]]', pg_catalog.lower(name::pg_catalog.text), '[[:>:]]') AS word
        FROM (
          SELECT proname AS name FROM pg_catalog.pg_proc
            WHERE r.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND oid = r.oid AND prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
          UNION ALL SELECT relname FROM pg_catalog.pg_class
            WHERE r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND oid = r.oid AND relkind = ANY ('{r,v,m,p,f}'::pg_catalog."char"[])
          UNION ALL SELECT typname FROM pg_catalog.pg_type
            WHERE r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND oid = r.oid) named
        OFFSET 0) n
      JOIN own o ON pg_catalog.strpos(o.source, n.name) > 0 AND (n.odd OR o.source ~ n.word)
  ) e (class, oid)
),
named AS (
  SELECT r.grade, p.proname::pg_catalog.text AS name FROM reach r JOIN pg_catalog.pg_proc p
    ON r.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = r.oid
    WHERE p.prorettype <> ALL (ARRAY['pg_catalog.trigger', 'pg_catalog.event_trigger']::pg_catalog.regtype[]::pg_catalog.oid[])
  UNION
  SELECT r.grade, c.relname FROM reach r JOIN pg_catalog.pg_class c
    ON r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = r.oid
    WHERE c.relkind = ANY ('{r,v,m,p,f}'::pg_catalog."char"[])
  UNION
  SELECT r.grade, t.typname FROM reach r JOIN pg_catalog.pg_type t
    ON r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = r.oid
),
listed AS (
  SELECT grade, pg_catalog.string_agg(name, pg_catalog.chr(10)) AS names, pg_catalog.bool_or(
    name ~ '[^ -~]' AND (pg_catalog.octet_length(name) >= 62 OR pg_catalog.strpos(name, pg_catalog.chr(10)) > 0
      OR pg_catalog.current_setting('client_encoding') <> 'UTF8'::pg_catalog.text)) AS odd
  FROM named GROUP BY grade
)
-- More than the proxy reads in one piece is as good as everywhere.
SELECT g.grade, CASE WHEN pg_catalog.octet_length(l.names) > 24000 THEN '' ELSE coalesce(l.names, '') END,
  coalesce(l.odd OR pg_catalog.octet_length(l.names) > 24000, false) OR EXISTS (
    SELECT FROM reach r WHERE r.grade = g.grade AND r.class = ANY (ARRAY[
      'pg_catalog.pg_cast', 'pg_catalog.pg_am', 'pg_catalog.pg_amproc', 'pg_catalog.pg_amop',
      'pg_catalog.pg_opclass']::pg_catalog.regclass[]::pg_catalog.oid[])
    UNION ALL
    -- In a schema that a role may use which the user may be.
    SELECT FROM reach r JOIN pg_catalog.pg_operator o ON o.oid = r.oid JOIN pg_catalog.pg_roles m
      ON pg_catalog.pg_has_role(session_user, m.oid, 'MEMBER') AND pg_catalog.has_schema_privilege(m.oid, o.oprnamespace, 'USAGE')
    WHERE r.grade = g.grade AND r.class = 'pg_catalog.pg_operator'::pg_catalog.regclass),
  EXISTS (SELECT FROM reach r WHERE r.grade = g.grade AND r.class = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass)
FROM (SELECT DISTINCT grade FROM seed) g LEFT JOIN listed l ON l.grade = g.grade

-- What in the database touches a session, and by which names a statement has to do with it: one row for each function,
-- rule, default, condition or policy that does so by itself.
--   source      its definition, as SQL or in the language of the function
--   names       of functions, relations and types through which it runs, one a line
--   everywhere  whether it may run without its name in the statement: by an operator, a cast, a name that is not ASCII
-- Operators become qualified ones before this is sent: a client's search_path may have others.
WITH RECURSIVE
own AS MATERIALIZED (
  SELECT p.oid, pg_catalog.lower(
    CASE WHEN p.prosrc = '' AND p.prokind <> 'a'::pg_catalog."char" THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END) AS source
  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384::pg_catalog.oid
),
-- PostgreSQL's own functions of that kind, called by their numbers in pg_proc.dat.
seed AS MATERIALIZED (
  SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS class, oid, source FROM own
  WHERE source ~ '(set_config|setseed|advisory_lock|[[:<:]]set[[:>:]]|[[:<:]]temp|[[:<:]]listen[[:>:]]|[[:<:]]prepare[[:>:]]|[[:<:]]deallocate[[:>:]]|[[:<:]]discard[[:>:]]|[[:<:]]load[[:>:]]|[[:<:]]execute[[:>:]]|dblink_connect)'
  UNION ALL
  SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid, pg_catalog.pg_get_ruledef(oid) FROM pg_catalog.pg_rewrite
  WHERE ev_class >= 16384::pg_catalog.oid AND ev_action::pg_catalog.text ~ ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '
  UNION ALL
  SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid, pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef
  WHERE adbin::pg_catalog.text ~ ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '
  UNION ALL
  SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
  WHERE conbin IS NOT NULL AND conbin::pg_catalog.text ~ ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '
  UNION ALL
  SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid,
    pg_catalog.concat(pg_catalog.pg_get_expr(polqual, polrelid), ' ', pg_catalog.pg_get_expr(polwithcheck, polrelid))
  FROM pg_catalog.pg_policy
  WHERE pg_catalog.concat(polqual::pg_catalog.text, polwithcheck::pg_catalog.text)
    ~ ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '
  UNION ALL
  SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid, pg_catalog.pg_get_triggerdef(oid) FROM pg_catalog.pg_trigger
  WHERE tgqual IS NOT NULL AND tgqual::pg_catalog.text ~ ':funcid (2078|1599|288[0-9]|289[0-3]|309[0-2]) '
),
-- From each of them to all that runs it.
reach AS (
  SELECT class AS seed_class, oid AS seed, class, oid FROM seed
  UNION
  SELECT r.seed_class, r.seed, e.class, e.oid FROM reach r CROSS JOIN LATERAL (
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
    -- What the body of a function names, it may use.
    UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, o.oid FROM (
        SELECT proname AS name FROM pg_catalog.pg_proc
          WHERE r.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND oid = r.oid AND prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
        UNION ALL SELECT relname FROM pg_catalog.pg_class
          WHERE r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND oid = r.oid AND relkind = ANY ('{r,v,m,p,f}'::pg_catalog."char"[])
        UNION ALL SELECT typname FROM pg_catalog.pg_type
          WHERE r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND oid = r.oid) n
      JOIN own o ON pg_catalog.strpos(o.source, pg_catalog.lower(n.name::pg_catalog.text)) > 0
        AND (n.name::pg_catalog.text ~ '[^a-z0-9_]' OR o.source ~ pg_catalog.concat('[[:<:]]', pg_catalog.lower(n.name::pg_catalog.text), '[[:>:]]'))
  ) e (class, oid)
),
named AS (
  SELECT r.seed_class, r.seed, p.proname::pg_catalog.text AS name FROM reach r JOIN pg_catalog.pg_proc p
    ON r.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = r.oid
    WHERE p.prorettype <> ALL (ARRAY['pg_catalog.trigger', 'pg_catalog.event_trigger']::pg_catalog.regtype[]::pg_catalog.oid[])
  UNION ALL
  SELECT r.seed_class, r.seed, c.relname FROM reach r JOIN pg_catalog.pg_class c
    ON r.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = r.oid
    WHERE c.relkind = ANY ('{r,v,m,p,f}'::pg_catalog."char"[])
  UNION ALL
  SELECT r.seed_class, r.seed, t.typname FROM reach r JOIN pg_catalog.pg_type t
    ON r.class = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = r.oid
)
-- What is longer than the proxy reads in one piece may do anything.
SELECT CASE WHEN pg_catalog.octet_length(s.source) > 12000 THEN 'setseed' ELSE s.source END,
  CASE WHEN pg_catalog.sum(pg_catalog.octet_length(n.name)) > 12000::pg_catalog.int8 THEN '' ELSE pg_catalog.string_agg(DISTINCT n.name, pg_catalog.chr(10)) END,
  coalesce(pg_catalog.bool_or(n.name ~ '[^ -~]'), false) OR coalesce(pg_catalog.sum(pg_catalog.octet_length(n.name)) > 12000::pg_catalog.int8, false) OR EXISTS (
    SELECT FROM reach r WHERE r.seed_class = s.class AND r.seed = s.oid AND r.class = ANY (ARRAY[
      'pg_catalog.pg_operator', 'pg_catalog.pg_cast', 'pg_catalog.pg_am', 'pg_catalog.pg_amproc', 'pg_catalog.pg_amop',
      'pg_catalog.pg_opclass', 'pg_catalog.pg_event_trigger']::pg_catalog.regclass[]::pg_catalog.oid[]))
FROM seed s LEFT JOIN named n ON n.seed_class = s.class AND n.seed = s.oid
GROUP BY s.class, s.oid, s.source
LIMIT 1001

-- What in the database may touch a session by itself: one row for each function, rule, default, condition, policy or trigger.
--   class, oid  its object, as in pg_depend
--   source      its definition, as SQL or in the language of the function
-- Operators become qualified ones before this is sent: a client's search_path may have others.
-- PostgreSQL's own functions that touch a session are looked for by their numbers in pg_proc.dat.
WITH own AS MATERIALIZED (
  SELECT p.oid,
    CASE WHEN p.prosrc = '' AND p.prokind <> 'a'::pg_catalog."char" THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END AS source
  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384::pg_catalog.oid
  -- What it makes is temporary, without a word of it in its body.
  UNION ALL SELECT oid, 'pg_temp' FROM pg_catalog.pg_proc
  WHERE proconfig IS NOT NULL AND pg_catalog.array_to_string(proconfig, ' ') ~ 'search_path="?pg_temp'
),
seed AS MATERIALIZED (
  SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS class, oid, source FROM own
  WHERE source ~* '(set_config|setseed|advisory_lock|[[:<:]]set[[:>:]]|[[:<:]]reset[[:>:]]|[[:<:]]hold[[:>:]]|[[:<:]]temp|pg_temp|[[:<:]]listen[[:>:]]|[[:<:]]prepare[[:>:]]|[[:<:]]deallocate[[:>:]]|[[:<:]]discard[[:>:]]|[[:<:]]load[[:>:]]|[[:<:]]execute[[:>:]]|dblink_connect|pg_settings|spi_|[.]cursor|_to_xml|ts_stat|ts_rewrite|crosstab|connectby|xpath_table)'
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
)
-- What is longer than the proxy reads in one piece may do anything.
SELECT class, oid, CASE WHEN pg_catalog.octet_length(source) > 24000 THEN 'setseed' ELSE source END FROM seed LIMIT 1001

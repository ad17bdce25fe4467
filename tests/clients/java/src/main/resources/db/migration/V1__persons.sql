CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL);
CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql AS $$ SELECT 2 * n; $$;

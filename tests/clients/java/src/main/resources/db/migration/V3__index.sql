CREATE INDEX person_name ON person (name);
CREATE VIEW doubled AS SELECT double(id) AS id, name FROM person;

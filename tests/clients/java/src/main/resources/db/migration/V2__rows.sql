INSERT INTO person SELECT i, 'person ' || i FROM generate_series(0, 99) i;

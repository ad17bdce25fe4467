// node-postgres: named queries, parameters, pools, cursors, LISTEN, pipelined queries.
import pg from 'pg';
import Cursor from 'pg-cursor';
import { HOST, PASSWORD, PORT, SETTINGS, USER, clients, database, options, within } from './own.js';

const ROUNDS = 30;

const config = (own, mode) => ({
  host: HOST, port: PORT, user: USER, password: PASSWORD, database: database(mode), ssl: false,
  application_name: own.name, options: options(own),
});

async function connect(own, mode, more = {}) {
  const client = new pg.Client({ ...config(own, mode), ...more });
  await client.connect();
  return client;
}

async function settings(own, client, zone) {
  own.same((await client.query(SETTINGS)).rows[0], own.settings(zone), 'settings');
}

async function named(own, client, turn) {
  const number = (own.number + turn) % 10;
  // Every client names another text like this: the names are its own.
  const mine = { name: 'mine', text: `SELECT value, '${own.name}' AS name FROM own WHERE id = $1`, values: [number] };
  own.same((await client.query(mine)).rows, [{ value: own.value(number), name: own.name }], 'a named query');
  const shared = { name: 'shared', text: 'SELECT id, value FROM own WHERE id = $1', values: [number] };
  own.same((await client.query(shared)).rows, [{ id: number, value: own.value(number) }], 'the same named query');
  const got = await client.query('SELECT $1::int + $2::int AS sum, $3::text AS name', [turn, number, own.name]);
  own.same(got.rows, [{ sum: turn + number, name: own.name }], 'parameters');
  const array = await client.query({ text: 'SELECT $1::jsonb, $2::int[]', rowMode: 'array',
    values: [{ a: own.name }, [turn, number]] });
  own.same(array.rows, [[{ a: own.name }, [turn, number]]], 'types');
}

async function transactions(own, client, turn) {
  await client.query('BEGIN');
  await client.query(`SET LOCAL TimeZone TO '${own.otherZone(turn)}'`);
  await client.query('INSERT INTO own VALUES ($1, $2)', [100 + turn, own.value(turn)]);
  await settings(own, client, own.otherZone(turn));
  await client.query('COMMIT');
  await settings(own, client);
  await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
  await client.query('DELETE FROM own');
  await client.query(`SET TimeZone TO '${own.otherZone(turn)}'`);
  await own.fails('22012', () => client.query({ name: 'fails', text: 'SELECT 1 / $1::int', values: [0] }));
  await own.fails('25P02', () => client.query('SELECT 1'));
  await client.query('ROLLBACK');
  await settings(own, client);
  own.same((await client.query('SELECT count(*)::int AS n FROM own')).rows, [{ n: 11 + turn }], 'after a rollback');
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS a; SHOW application_name');
  own.same(several.map((one) => one.rows[0]), [{ a: 1 }, { a: 2 }, { application_name: own.name }], 'several');
}

// Queries that are queued in the client, all at once.
async function queued(own, client, turn) {
  const all = Array.from({ length: 20 }, (_, i) => client.query(
    i % 2 ? { name: `q${i}`, text: `SELECT $1::text || ${i} AS v`, values: [own.name] }
      : { text: `SELECT $1::text || ${i} AS v`, values: [own.name] }));
  const got = (await Promise.all(all)).map((one) => one.rows[0].v);
  own.same(got, Array.from({ length: 20 }, (_, i) => `${own.name}${i}`), `queued in round ${turn}`);
}

async function cursors(own, client) {
  await client.query('BEGIN');
  const cursor = client.query(new Cursor('SELECT $1 || i AS v FROM generate_series(1, 25) i', [own.name]));
  const got = [];
  for (let rows = await cursor.read(10); rows.length > 0; rows = await cursor.read(10)) got.push(...rows);
  own.same(got.map((row) => row.v), Array.from({ length: 25 }, (_, i) => `${own.name}${i + 1}`), 'a cursor');
  await cursor.close();
  // One that is closed early.
  const early = client.query(new Cursor('SELECT i FROM generate_series(1, 1000) i'));
  own.same(await early.read(2), [{ i: 1 }, { i: 2 }], 'a cursor that is closed early');
  await early.close();
  await client.query('COMMIT');
}

async function pooled(own) {
  const pool = new pg.Pool({ ...config(own, 'transaction'), max: 3 });
  await Promise.all(Array.from({ length: 30 }, async (_, turn) => {
    own.same((await pool.query(SETTINGS)).rows[0], own.settings(), 'from a pool');
    const client = await pool.connect();
    try {
      await named(own, client, turn);
      await client.query('BEGIN');
      own.same((await client.query('SELECT value FROM own WHERE id = 3')).rows, [{ value: own.value(3) }], 'a pool');
      await client.query('COMMIT');
    } finally {
      client.release();
    }
  }));
  await pool.end();
}

async function changing(own, client) {
  await client.query('CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)');
  const text = 'SELECT * FROM changing';
  for (const column of ['b', 'c', 'd']) {
    for (let i = 0; i < 3; i += 1) {
      // node-postgres cannot prepare again: where the server refuses the old plan, so it does directly.
      const found = (await client.query({ name: `changing-${column}`, text })).rows;
      own.same(found[0].a, 1, 'a changing table');
    }
    await client.query(`ALTER TABLE changing ADD COLUMN ${column} int`);
  }
  await client.query('DROP TABLE changing');
}

async function listens(own) {
  const client = await connect(own, 'listen');
  const got = [];
  const all = new Promise((done) => {
    client.on('notification', ({ payload }) => got.push(payload) === 10 && done());
  });
  await client.query(`LISTEN ${own.schema}`);
  for (let i = 0; i < 10; i += 1) await client.query('SELECT pg_notify($1, $2)', [own.schema, own.value(i)]);
  await within(20, all, 'notifications');
  own.same(got, Array.from({ length: 10 }, (_, i) => own.value(i)), 'notifications');
  await client.query('UNLISTEN *');
  await client.end();
}

async function autocommit(own, mode) {
  const client = await connect(own, mode);
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await named(own, client, turn);
    await settings(own, client);
  }
  await client.end();
}

await clients('nodepg', async (own) => {
  const bare = new pg.Client({ host: HOST, port: PORT, user: USER, password: PASSWORD, ssl: false,
    database: database('transaction') });
  await bare.connect();
  await bare.query(own.statements());
  await bare.end();
  const client = await connect(own, 'transaction');
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await named(own, client, turn);
    await transactions(own, client, turn);
    await queued(own, client, turn);
    if (turn % 5 === 0) await cursors(own, client);
  }
  await changing(own, client);
  await client.end();
  await pooled(own);
  await autocommit(own, 'statement');
  if (own.number < 4) {
    await autocommit(own, 'session');
    await listens(own);
  }
});

// postgres.js: everything prepared and pipelined by default, transactions, savepoints, cursors, COPY, listen, cancel.
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import postgres from 'postgres';
import { HOST, PASSWORD, PORT, USER, clients, database, within } from './own.js';

const ROUNDS = 30;

const connect = (own, mode, more = {}) => postgres({
  host: HOST, port: PORT, user: USER, password: PASSWORD, database: database(mode), ssl: false, max: 2,
  onnotice: () => {},
  connection: { application_name: own.name, TimeZone: own.zone, search_path: own.schema }, ...more,
});

async function settings(own, sql, zone) {
  const [row] = await sql`SELECT current_setting('TimeZone') AS zone, current_setting('application_name') AS name,
    current_schema() AS schema`;
  own.same({ ...row }, own.settings(zone), 'settings');
}

async function prepared(own, sql, turn) {
  const number = (own.number + turn) % 10;
  const [row] = await sql`SELECT id, value FROM own WHERE id = ${number}`;
  own.same(row, { id: number, value: own.value(number) }, 'a prepared statement');
  // All of them at once, over two connections.
  const all = await Promise.all(Array.from({ length: 10 }, (_, i) => sql`SELECT ${own.name} || ${String(i)} AS v`));
  own.same(all.map((rows) => rows[0].v), Array.from({ length: 10 }, (_, i) => `${own.name}${i}`), 'a pipeline');
  const [types] = await sql`SELECT ${[1, turn]}::int[] AS list, ${sql.json({ turn })}::jsonb AS json`;
  own.same(types, { list: [1, turn], json: { turn } }, 'types');
  const ids = await sql`SELECT id FROM own WHERE id IN ${sql([1, 2, number])} ORDER BY id`;
  own.same(ids.map((found) => found.id), [...new Set([1, 2, number])].sort((a, b) => a - b), 'a list');
  const [plain] = await sql.unsafe(`SELECT ${turn} AS turn`);
  own.same(plain, { turn }, 'an unprepared text');
}

async function transactions(own, sql, turn) {
  const rows = [{ id: 100 + turn, value: own.value(turn) }, { id: 200 + turn, value: own.value(turn) }];
  await sql.begin(async (tx) => {
    await tx`INSERT INTO own ${tx(rows)}`;
    await tx`SELECT set_config('TimeZone', ${own.otherZone(turn)}, true)`;
    await settings(own, tx, own.otherZone(turn));
    await own.fails('23505', () => tx.savepoint((inner) => inner`INSERT INTO own ${inner(rows)}`));
    const [row] = await tx`SELECT count(*)::int AS n FROM own`;
    own.same(row, { n: 12 + 2 * turn }, 'after a savepoint');
  });
  await settings(own, sql);
  await own.fails('22012', () => sql.begin('ISOLATION LEVEL SERIALIZABLE', async (tx) => {
    await tx`DELETE FROM own`;
    // A pipeline whose middle fails.
    await Promise.all([tx`SELECT 1 AS one`, tx`SELECT 1 / ${0}::int AS two`, tx`SELECT 3 AS three`]);
  }));
  const [row] = await sql`SELECT count(*)::int AS n FROM own`;
  own.same(row, { n: 12 + 2 * turn }, 'after a rollback');
}

async function cursors(own, sql) {
  const got = [];
  await sql`SELECT ${own.name} || i AS v FROM generate_series(1, 25) i`.cursor(7, (rows) => {
    got.push(...rows.map((row) => row.v));
  });
  own.same(got, Array.from({ length: 25 }, (_, i) => `${own.name}${i + 1}`), 'a cursor');
  let count = 0;
  for await (const rows of sql`SELECT i FROM generate_series(1, 1000) i`.cursor(10)) {
    count += rows.length;
    if (count === 50) break;
  }
  own.same(count, 50, 'a cursor that is left early');
  await settings(own, sql);
}

async function copies(own, sql) {
  await sql`CREATE TABLE copied (id int, value text)`;
  const lines = Array.from({ length: 200 }, (_, i) => `${i}\t${own.value(i)}\n`);
  await pipeline(Readable.from(lines), await sql`COPY copied (id, value) FROM STDIN`.writable());
  const chunks = [];
  for await (const chunk of await sql`COPY (SELECT * FROM copied ORDER BY id) TO STDOUT`.readable()) chunks.push(chunk);
  own.same(Buffer.concat(chunks).toString(), lines.join(''), 'COPY');
  await sql`DROP TABLE copied`;
}

async function changing(own, sql) {
  await sql`CREATE TABLE changing (a int)`;
  await sql`INSERT INTO changing VALUES (1)`;
  for (const column of ['b', 'c', 'd']) {
    for (let i = 0; i < 4; i += 1) {
      // postgres.js prepares again by itself, where the server refuses the old plan.
      const [row] = await sql`SELECT * FROM changing`;
      own.same(Object.keys(row).length, column.charCodeAt(0) - 97, 'a changing table');
    }
    await sql.unsafe(`ALTER TABLE changing ADD COLUMN ${column} int`);
  }
  await sql`DROP TABLE changing`;
}

async function cancels(own, sql) {
  const query = sql`SELECT pg_sleep(20)`;
  setTimeout(() => query.cancel(), 200);
  await own.fails('57014', () => query);
  await settings(own, sql);
}

// A connection for this client alone, which postgres.js keeps until it is released.
async function reserved(own, sql) {
  const mine = await sql.reserve();
  await mine.unsafe(`SET TimeZone TO '${own.otherZone(1)}'`);
  await settings(own, mine, own.otherZone(1));
  await mine`RESET TimeZone`;
  await settings(own, mine);
  mine.release();
}

async function listens(own) {
  const sql = connect(own, 'listen');
  const got = [];
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const { unlisten } = await sql.listen(own.schema, (payload) => got.push(payload) === 10 && done());
  for (let i = 0; i < 10; i += 1) await sql.notify(own.schema, own.value(i));
  await within(20, all, 'notifications');
  own.same([...got].sort(), Array.from({ length: 10 }, (_, i) => own.value(i)), 'notifications');
  await unlisten();
  await sql.end();
}

async function autocommit(own, mode, more = {}) {
  const sql = connect(own, mode, { max: 1, ...more });
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await prepared(own, sql, turn);
    await settings(own, sql);
  }
  await sql.end();
}

await clients('postgresjs', async (own) => {
  const bare = postgres({ host: HOST, port: PORT, user: USER, password: PASSWORD, ssl: false, max: 1,
    database: database('transaction'), onnotice: () => {} });
  await bare.unsafe(own.statements());
  await bare.end();
  const sql = connect(own, 'transaction');
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await prepared(own, sql, turn);
    await transactions(own, sql, turn);
    if (turn % 5 === 0) {
      await cursors(own, sql);
      await copies(own, sql);
      await reserved(own, sql);
    }
  }
  if (own.number < 2) await cancels(own, sql);
  await autocommit(own, 'transaction', { prepare: false });
  await autocommit(own, 'statement');
  if (own.number < 4) {
    await autocommit(own, 'session');
    await listens(own);
  }
  await changing(own, sql);
  await sql.end();
});

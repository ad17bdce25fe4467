// Drizzle over node-postgres and over postgres.js: prepared queries, relations, nested transactions.
import { count, eq, inArray, sql } from 'drizzle-orm';
import { drizzle as overPg } from 'drizzle-orm/node-postgres';
import { drizzle as overPostgres } from 'drizzle-orm/postgres-js';
import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import pg from 'pg';
import postgres from 'postgres';
import { HOST, PASSWORD, PORT, USER, clients, database, options } from './own.js';

const ROUNDS = 20;
const owned = pgTable('own', { id: integer('id').primaryKey(), value: text('value').notNull() });

function connect(own, driver, mode) {
  const address = { host: HOST, port: PORT, user: USER, password: PASSWORD, database: database(mode), ssl: false,
    max: 2 };
  if (driver === 'pg') {
    const pool = new pg.Pool({ ...address, application_name: own.name, options: options(own) });
    return { db: overPg(pool), rows: (got) => got.rows, end: () => pool.end() };
  }
  const client = postgres({ ...address, onnotice: () => {},
    connection: { application_name: own.name, TimeZone: own.zone, search_path: own.schema } });
  return { db: overPostgres(client), rows: (got) => [...got], end: () => client.end() };
}

async function settings(own, { db, rows }) {
  const got = await db.execute(sql`SELECT current_setting('TimeZone') AS zone,
    current_setting('application_name') AS name, current_schema() AS schema`);
  own.same(rows(got)[0], own.settings(), 'settings');
}

async function queries(own, { db }, byName, turn) {
  const number = (own.number + turn) % 10;
  own.same(await byName.execute({ id: number }), [{ id: number, value: own.value(number) }], 'a prepared query');
  await db.insert(owned).values({ id: 100 + turn, value: own.name })
    .onConflictDoUpdate({ target: owned.id, set: { value: own.name } });
  const changed = await db.update(owned).set({ value: own.value(turn) }).where(eq(owned.id, 100 + turn)).returning();
  own.same(changed, [{ id: 100 + turn, value: own.value(turn) }], 'an update');
  const some = await db.select({ id: owned.id }).from(owned).where(inArray(owned.id, [1, 2, 3])).orderBy(owned.id);
  own.same(some, [{ id: 1 }, { id: 2 }, { id: 3 }], 'a list');
}

async function transactions(own, { db }) {
  const before = (await db.select({ n: count() }).from(owned))[0].n;
  await own.fails('23505', () => db.transaction(async (tx) => {
    await tx.delete(owned).where(eq(owned.id, 9));
    await tx.insert(owned).values({ id: 1, value: 'twice' });
  }, { isolationLevel: 'serializable' }));
  await own.fails('22012', () => db.transaction(async (tx) => {
    await own.fails('23505', () => tx.transaction((inner) => inner.insert(owned).values({ id: 1, value: 'twice' })));
    own.same((await tx.select({ n: count() }).from(owned))[0].n, before, 'after a nested transaction');
    await tx.execute(sql`SELECT 1 / ${0}::int`);
  }));
  own.same((await db.select({ n: count() }).from(owned))[0].n, before, 'after the transactions');
}

const driver = process.argv[2];
await clients(`drizzle_${driver}`, async (own) => {
  const bare = new pg.Client({ host: HOST, port: PORT, user: USER, password: PASSWORD, ssl: false,
    database: database('transaction') });
  await bare.connect();
  await bare.query(own.statements());
  await bare.end();
  const link = connect(own, driver, 'transaction');
  const byName = link.db.select().from(owned).where(eq(owned.id, sql.placeholder('id'))).prepare('by_name');
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await queries(own, link, byName, turn);
    await transactions(own, link);
    await settings(own, link);
  }
  await link.end();
  const statement = connect(own, driver, 'statement');
  for (let turn = 0; turn < ROUNDS; turn += 1) await settings(own, statement);
  await statement.end();
});

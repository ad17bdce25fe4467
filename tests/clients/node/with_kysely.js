// Kysely over node-postgres: a query builder, its transactions and savepoints, its look at the catalogue, migrations.
import { Kysely, Migrator, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { HOST, PASSWORD, PORT, SETTINGS, USER, clients, database, options } from './own.js';

const ROUNDS = 20;

const connect = (own, mode) => new Kysely({ dialect: new PostgresDialect({
  cursor: Cursor,
  pool: new pg.Pool({ host: HOST, port: PORT, user: USER, password: PASSWORD, database: database(mode), ssl: false,
    max: 2, application_name: own.name, options: options(own) }),
}) });

async function settings(own, db) {
  own.same((await sql.raw(SETTINGS).execute(db)).rows[0], own.settings(), 'settings');
}

async function queries(own, db, turn) {
  const number = (own.number + turn) % 10;
  const row = await db.selectFrom('own').selectAll().where('id', '=', number).executeTakeFirst();
  own.same(row, { id: number, value: own.value(number) }, 'a select');
  const added = await db.insertInto('own').values([{ id: 100 + turn, value: own.name }]).returning('id')
    .onConflict((conflict) => conflict.column('id').doNothing()).executeTakeFirst();
  own.same(added, { id: 100 + turn }, 'an insert');
  const updated = await db.updateTable('own').set({ value: own.value(turn) }).where('id', '=', 100 + turn)
    .executeTakeFirst();
  own.same(Number(updated.numUpdatedRows), 1, 'an update');
  const streamed = [];
  for await (const one of db.selectFrom('own').select('id').orderBy('id').limit(8).stream(3)) streamed.push(one.id);
  own.same(streamed, [0, 1, 2, 3, 4, 5, 6, 7], 'a stream');
}

async function transactions(own, db, turn) {
  await own.fails('23505', () => db.transaction().setIsolationLevel('serializable').execute(async (tx) => {
    await tx.deleteFrom('own').where('id', '>', 5).execute();
    await settings(own, tx);
    await tx.insertInto('own').values({ id: 1, value: 'twice' }).execute();
  }));
  const tx = await db.startTransaction().execute();
  await tx.insertInto('own').values({ id: 1000, value: own.name }).execute();
  const inner = await tx.savepoint('inner').execute();
  await own.fails('23505', () => inner.insertInto('own').values({ id: 1000, value: 'twice' }).execute());
  await inner.rollbackToSavepoint('inner').execute();
  await tx.rollback().execute();
  const { n } = await db.selectFrom('own').select((e) => e.fn.countAll().as('n')).executeTakeFirst();
  own.same(Number(n), 11 + turn, 'after the transactions');
}

// Migrations take an advisory lock, and look at the catalogue: at every schema's tables, so that nobody may drop
// anything meanwhile.
async function migrations(own, db) {
  const all = {
    '1-makes': { up: (tx) => tx.schema.createTable('made').addColumn('id', 'integer').execute() },
    '2-adds': { up: (tx) => tx.schema.alterTable('made').addColumn('name', 'text').execute() },
  };
  const migrator = new Migrator({ db, provider: { getMigrations: async () => all },
    migrationTableSchema: own.schema });
  const up = await migrator.migrateToLatest();
  if (up.error) throw up.error;
  own.same(up.results.map((one) => one.status), ['Success', 'Success'], 'migrations');
  const tables = (await db.introspection.getTables()).filter((table) => table.schema === own.schema);
  own.same(tables.find((table) => table.name === 'made').columns.map((column) => column.name), ['id', 'name'],
    'the catalogue');
}

await clients('kysely', async (own) => {
  const bare = new pg.Client({ host: HOST, port: PORT, user: USER, password: PASSWORD, ssl: false,
    database: database('transaction') });
  await bare.connect();
  await bare.query(own.statements());
  await bare.end();
  const db = connect(own, 'transaction');
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    await queries(own, db, turn);
    await transactions(own, db, turn);
    await settings(own, db);
  }
  await migrations(own, db);
  await db.destroy();
  const statement = connect(own, 'statement');
  for (let turn = 0; turn < ROUNDS; turn += 1) await settings(own, statement);
  await statement.destroy();
});

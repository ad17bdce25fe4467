// node-postgres and postgres.js over TLS: the server's certificate is verified; node-postgres binds SCRAM to the channel.
import { readFileSync } from 'node:fs';
import pg from 'pg';
import postgres from 'postgres';

const { PGPORT, PGUSER, PGPASSWORD, CLIENTS_CA, CLIENTS_OTHER_CA, CLIENTS_TRANSACTION } = process.env;
const ENCRYPTED = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';
let checks = 0;

function check(right, what) {
  checks += 1;
  if (!right) throw new Error(`wrong: ${what}`);
}

const trusts = (path) => ({ rejectUnauthorized: true, ca: readFileSync(path, 'utf8') });
const words = { host: 'localhost', port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: CLIENTS_TRANSACTION };

async function withPg(binding, more = {}) {
  const client = new pg.Client({ ...words, ssl: trusts(CLIENTS_CA), enableChannelBinding: binding, ...more });
  let offered = [];
  client.connection.on('authenticationSASL', (message) => { offered = message.mechanisms; });
  await client.connect();
  // It takes the first of them if it may.
  check(offered[0] === 'SCRAM-SHA-256-PLUS', `offered: ${offered}`);
  check(client.connection.stream.authorized, 'not verified');
  check((await client.query(ENCRYPTED)).rows[0].ssl === true, 'the other leg');
  for (const length of [1, 70_000, 3_000_000]) {
    const got = await client.query({ name: 'long', text: 'SELECT $1::text AS text', values: ['x'.repeat(length)] });
    check(got.rows[0].text.length === length, `${length} bytes`);
  }
  await client.end();
}

async function fails(code, attempt) {
  try {
    await attempt();
  } catch (error) {
    check(error.code === code, `${error.code} instead of ${code}: ${error}`);
    return;
  }
  check(false, `no ${code}`);
}

async function withPostgres(more = {}) {
  const sql = postgres({ ...words, ssl: trusts(CLIENTS_CA), max: 2, ...more });
  try {
    check((await sql.unsafe(ENCRYPTED))[0].ssl === true, 'the other leg');
    check((await sql`SELECT length(${'y'.repeat(200_000)}::text) AS length`)[0].length === 200_000, 'a long parameter');
  } finally {
    await sql.end();
  }
}

await withPg(true);
await withPg(false);
await fails('28P01', () => withPg(true, { password: 'wrong' }));
await fails('DEPTH_ZERO_SELF_SIGNED_CERT', () => withPg(true, { ssl: trusts(CLIENTS_OTHER_CA) }));
await withPostgres();
await fails('28P01', () => withPostgres({ password: 'wrong' }));
console.log(`ok ${checks} checks`);

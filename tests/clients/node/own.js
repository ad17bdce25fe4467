// What every program does: many clients at once, each with a schema, a time zone and a name of its own.
//
// A client calls its tables by their names alone. So whoever gets another client's search path reads another client's
// rows, and finds out.
import { isDeepStrictEqual } from 'node:util';

export const CLIENTS = 20;
const ZONES = ['UTC', 'Europe/Berlin', 'Asia/Tokyo', 'America/New_York', 'Asia/Kolkata', 'Australia/Sydney'];
export const HOST = process.env.PGHOST;
export const PORT = Number(process.env.PGPORT);
export const USER = process.env.PGUSER;
export const PASSWORD = process.env.PGPASSWORD;

// The name of the database that leads to this mode's route.
export const database = (mode) => process.env[`CLIENTS_${mode.toUpperCase()}`];

export const SETTINGS = `SELECT current_setting('TimeZone') AS zone, current_setting('application_name') AS name,
  current_schema() AS schema`;

// One client's own values, and the count of what it has checked.
export class Own {
  constructor(program, number) {
    this.number = number;
    this.checks = 0;
    this.name = `${program}-${number}`;
    this.schema = `${program}_${number}`;
    this.zone = ZONES[number % ZONES.length];
  }

  otherZone(turn) {
    return ZONES[(this.number + turn) % ZONES.length];
  }

  same(got, expected, what) {
    this.checks += 1;
    if (!isDeepStrictEqual(JSON.parse(JSON.stringify(got ?? null)), expected)) {
      const [found, wanted] = [got, expected].map((one) => JSON.stringify(one));
      throw new Error(`client ${this.number}: ${what}: got ${found}, expected ${wanted}`);
    }
  }

  settings(zone = this.zone) {
    return { zone, name: this.name, schema: this.schema };
  }

  // What the schema is made with: ten rows, whose values name their client.
  statements() {
    return `DROP SCHEMA IF EXISTS ${this.schema} CASCADE; CREATE SCHEMA ${this.schema};
      CREATE TABLE ${this.schema}.own (id int PRIMARY KEY, value text NOT NULL);
      INSERT INTO ${this.schema}.own SELECT i, '${this.name}:' || i FROM generate_series(0, 9) i`;
  }

  value(row) {
    return `${this.name}:${row}`;
  }

  // Runs `work`, which has to fail with this SQLSTATE. Some drivers wrap the server's error.
  async fails(code, work) {
    try {
      await work();
    } catch (error) {
      if ((error.code ?? error.cause?.code) !== code) throw error;
      this.checks += 1;
      return;
    }
    throw new Error(`client ${this.number}: expected ${code}, and it succeeded`);
  }
}

// For options in the startup packet.
export const options = (own) => `-c TimeZone=${own.zone} -c search_path=${own.schema}`;

// Fails with `what`, where `promise` takes longer than this.
export const within = (seconds, promise, what) => {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no ${what} for ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// Runs `client` so many times at once.
export async function clients(program, client) {
  const owns = Array.from({ length: CLIENTS }, (_, number) => new Own(program, number));
  const ended = await Promise.allSettled(owns.map((own) => client(own)));
  const problems = ended.map((end, number) => [end, number]).filter(([end]) => end.status === 'rejected');
  if (problems.length > 0) {
    console.log(`${problems.length} of ${owns.length} clients failed`);
    for (const [{ reason }, number] of problems.slice(0, 3)) console.log(`client ${number}:`, reason);
    process.exit(1);
  }
  console.log(`ok ${owns.reduce((sum, own) => sum + own.checks, 0)} checks`);
  process.exit(0);
}

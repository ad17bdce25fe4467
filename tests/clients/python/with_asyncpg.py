"""asyncpg: every statement is named and kept, types are looked up, pools reset what they take back."""

import asyncio

import asyncpg

from own import HOST, PASSWORD, PORT, USER, database, tasks

ROUNDS = 30


def options(own, mode):
    return {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": database(mode), "ssl": False,
            "server_settings": {"application_name": own.name, "TimeZone": own.zone, "search_path": own.schema}}


async def settings(own, link, zone=None, where="settings"):
    got = await link.fetchrow(
        "SELECT current_setting('TimeZone'), current_setting('application_name'), current_schema(),"
        " current_setting('jit')")
    # asyncpg switches `jit` off while it looks types up, and on again.
    own.same(tuple(got), (zone or own.zone, own.name, own.schema, "on"), where)


async def named(own, link, turn):
    number = (own.number + turn) % 10
    got = await link.fetchrow("SELECT id, value FROM own WHERE id = $1", number)
    own.same(tuple(got), (number, own.value(number)), "a named statement")
    own.same(await link.fetchval("SELECT $1::int + $2::int", turn, own.number), turn + own.number, "a sum")
    own.same(await link.fetchval(f"SELECT $1 || '{turn}'", own.name), f"{own.name}{turn}", "a text of its own")
    statement = await link.prepare("SELECT value FROM own WHERE id = ANY($1::int[]) ORDER BY id")
    for upto in (2, 5):
        got = [found[0] for found in await statement.fetch(list(range(upto)))]
        own.same(got, [own.value(i) for i in range(upto)], "a prepared statement")


async def transactions(own, link, turn):
    async with link.transaction():
        await link.execute("INSERT INTO own VALUES ($1, $2)", 100 + turn, own.value(100 + turn))
        await link.execute(f"SET LOCAL TimeZone TO '{own.other_zone(turn)}'")
        await settings(own, link, own.other_zone(turn), "SET LOCAL")
    await settings(own, link, where="after SET LOCAL")
    try:
        async with link.transaction(isolation="serializable"):
            await link.execute("DELETE FROM own")
            await link.execute(f"SET TimeZone TO '{own.other_zone(turn)}'")
            await link.execute("SELECT 1 / $1::int", 0)
    except asyncpg.DivisionByZeroError:
        own.checks += 1
    await settings(own, link, where="after a rollback")
    async with link.transaction():
        try:
            async with link.transaction():
                await link.execute("INSERT INTO own VALUES ($1, $2)", 100 + turn, "twice")
        except asyncpg.UniqueViolationError:
            own.checks += 1
        own.same(await link.fetchval("SELECT count(*) FROM own"), 11 + turn, "after a savepoint")


async def cursors(own, link):
    async with link.transaction():
        got = [found[0] async for found in link.cursor(
            "SELECT $1 || i FROM generate_series(1, 25) i", own.name, prefetch=4)]
        own.same(got, [f"{own.name}{i}" for i in range(1, 26)], "a cursor")
        cursor = await link.cursor("SELECT i FROM generate_series(1, 25) i")
        await cursor.forward(10)
        own.same((await cursor.fetchrow())[0], 11, "a cursor, forward")


async def types(own, link, turn):
    """A type that is new each time, which asyncpg has to look up."""
    await link.execute(f"CREATE TYPE pair_{turn} AS (number int, name text)")
    await link.execute(f"CREATE TYPE mood_{turn} AS ENUM ('sad', 'glad')")
    got = await link.fetchrow(f"SELECT ROW($1::int, $2::text)::pair_{turn}, ARRAY['glad']::mood_{turn}[]", turn,
                              own.name)
    own.same((tuple(got[0]), got[1]), ((turn, own.name), ["glad"]), "types that are looked up")
    await link.execute(f"DROP TYPE pair_{turn}, mood_{turn}")
    await settings(own, link, where="after looking types up")


async def copies(own, link):
    await link.execute("CREATE TABLE IF NOT EXISTS copied (id int, value text)")
    await link.copy_records_to_table("copied", records=[(i, own.value(i)) for i in range(200)])
    own.same(await link.fetchval("SELECT count(*) FROM copied"), 200, "COPY to a table")
    found = bytearray()

    async def take(data):
        found.extend(data)

    await link.copy_from_query("SELECT value FROM copied WHERE id < $1 ORDER BY id", 3, output=take)
    own.same(found.decode().split(), [own.value(i) for i in range(3)], "COPY from a query")
    await link.execute("DROP TABLE copied")


async def batches(own, link, turn):
    try:
        async with link.transaction():
            await link.executemany("INSERT INTO own VALUES ($1, $2)", [(500 + i, "x") for i in range(30)])
            own.same(await link.fetchval("SELECT count(*) FROM own WHERE value = 'x'"), 30, "executemany")
            raise asyncio.QueueEmpty
    except asyncio.QueueEmpty:
        own.same(await link.fetchval("SELECT count(*) FROM own WHERE value = 'x'"), 0, f"undone in round {turn}")


async def definitions(own, link):
    """Statements whose table changes under them: asyncpg is told by an error, and prepares them again by itself."""
    await link.execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (7)")
    changes = ["ADD COLUMN b int DEFAULT 8", "ALTER COLUMN a TYPE bigint", "ADD COLUMN c int DEFAULT 9"]
    for step, change in enumerate(changes):
        for _ in range(3):
            got = await link.fetchrow("SELECT * FROM changing")
            own.same(tuple(got), (7, 8)[:step + 1], f"a changing table before {change}")
            # Its parameter is of the type that it had at first, whatever becomes of the column.
            got = await link.fetchval("SELECT 'found' FROM changing WHERE a = $1", 7)
            own.same(got, "found", f"a parameter before {change}")
        await link.execute(f"ALTER TABLE changing {change}")
    await link.execute("DROP TABLE changing")


async def cancels(own, link):
    """A timeout cancels on a connection of its own; nobody else is to feel it."""
    try:
        await link.fetchval("SELECT pg_sleep(20)", timeout=0.2)
        raise AssertionError("the sleep was not cancelled")
    except asyncio.TimeoutError:
        own.checks += 1
    await settings(own, link, where="after a timeout")


async def pooled(own):
    """What a pool takes back it resets: UNLISTEN, CLOSE ALL, RESET ALL, and its advisory locks."""
    async with asyncpg.create_pool(min_size=1, max_size=2, **options(own, "transaction")) as pool:
        async def use(turn):
            async with pool.acquire() as link:
                await settings(own, link, where="from a pool")
                await link.execute(f"SET TimeZone TO '{own.other_zone(turn)}'")
                await settings(own, link, own.other_zone(turn), "SET in a pool")
                await named(own, link, turn)

        await asyncio.gather(*map(use, range(10)))


async def forgotten(own):
    """More texts than asyncpg keeps prepared: it closes the oldest, over and over."""
    link = await asyncpg.connect(**options(own, "transaction"), statement_cache_size=3)
    for turn in range(60):
        got = await link.fetchval(f"SELECT $1 || '{turn % 8}'", own.name)
        own.same(got, f"{own.name}{turn % 8}", "a statement that was forgotten")
    await link.close()


async def listens(own):
    link, got, done = await asyncpg.connect(**options(own, "listen")), [], asyncio.Event()

    def take(_connection, _process, _channel, payload):
        got.append(payload)
        if len(got) == 10:
            done.set()

    await link.add_listener(own.schema, take)
    for turn in range(10):
        await link.execute("SELECT pg_notify($1, $2)", own.schema, own.value(turn))
    await asyncio.wait_for(done.wait(), 20)
    own.same(got, [own.value(turn) for turn in range(10)], "notifications")
    await link.remove_listener(own.schema, take)
    await link.close()


async def autocommit(own, mode):
    link = await asyncpg.connect(**options(own, mode))
    for turn in range(ROUNDS):
        await named(own, link, turn)
        await settings(own, link, where=f"{mode} mode")
    await link.close()


async def client(own):
    link = await asyncpg.connect(**options(own, "transaction"))
    await link.execute(";".join(own.statements()))
    for turn in range(ROUNDS):
        await named(own, link, turn)
        await transactions(own, link, turn)
        if turn % 5 == 0:
            await cursors(own, link)
            await types(own, link, turn)
            await copies(own, link)
            await batches(own, link, turn)
    if own.number < 2:
        await cancels(own, link)
    await link.reset()
    await settings(own, link, where="after a reset")
    await pooled(own)
    await forgotten(own)
    await autocommit(own, "statement")
    if own.number < 4:
        await autocommit(own, "session")
        await listens(own)
    await definitions(own, link)
    await link.close()


if __name__ == "__main__":
    asyncio.run(tasks("asyncpg", client))

// pgx: statements that are prepared and kept, described and kept, or neither; batches, COPY, LISTEN, timeouts, pools.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"firepool/tests/clients/own"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const rounds = 20

var ctx = context.Background()

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func connect(c *own.Client, mode string, how pgx.QueryExecMode) *pgx.Conn {
	config, err := pgx.ParseConfig(c.Words(mode))
	c.Good(err, "configuration")
	config.DefaultQueryExecMode = how
	link, err := pgx.ConnectConfig(ctx, config)
	c.Good(err, "connect")
	return link
}

func settings(c *own.Client, link querier, zone string) {
	var gotZone, name, schema string
	c.Good(link.QueryRow(ctx, own.Settings).Scan(&gotZone, &name, &schema), "settings")
	c.Same([]string{gotZone, name, schema}, []string{zone, c.Name, c.Schema}, "settings")
}

func queries(c *own.Client, link querier, turn int) {
	number := (c.Number + turn) % 10
	var id int
	var value string
	c.Good(link.QueryRow(ctx, "SELECT id, value FROM own WHERE id = $1", number).Scan(&id, &value), "a row")
	c.Same([]any{id, value}, []any{number, c.Value(number)}, "a row")
	var sum int64
	c.Good(link.QueryRow(ctx, "SELECT $1::int8 + $2::int8", int64(turn), int64(number)).Scan(&sum), "a sum")
	c.Same(sum, int64(turn+number), "a sum")
	rows, err := link.Query(ctx, fmt.Sprintf("SELECT value || '%d' FROM own WHERE id < 5 ORDER BY id", turn))
	c.Good(err, "rows")
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	c.Good(err, "rows")
	for i, got := range values {
		c.Same(got, fmt.Sprintf("%s%d", c.Value(i), turn), "rows")
	}
	_, err = link.Exec(ctx, "SELECT 1 / $1::int", 0)
	c.Fails(err, "22012", "an error")
}

func batches(c *own.Client, link querier, turn int) {
	batch := &pgx.Batch{}
	for i := range 10 {
		batch.Queue("SELECT value FROM own WHERE id = $1", i)
		batch.Queue("INSERT INTO own VALUES ($1, $2)", 1000+100*turn+i, c.Name)
	}
	results := link.SendBatch(ctx, batch)
	for i := range 10 {
		var value string
		c.Good(results.QueryRow().Scan(&value), "a batch")
		c.Same(value, c.Value(i), "a batch")
		tag, err := results.Exec()
		c.Good(err, "a batch's insert")
		c.Same(tag.RowsAffected(), int64(1), "a batch's insert")
	}
	c.Good(results.Close(), "a batch")
	// One that fails in its middle, and takes all of it back.
	batch = &pgx.Batch{}
	batch.Queue("DELETE FROM own WHERE id >= 1000")
	batch.Queue("INSERT INTO own VALUES ($1, 'twice')", 1)
	batch.Queue("SELECT value FROM own WHERE id = $1", 2)
	c.Fails(link.SendBatch(ctx, batch).Close(), "23505", "a batch that fails")
	var count int
	c.Good(link.QueryRow(ctx, "SELECT count(*) FROM own WHERE id >= $1", 1000+100*turn).Scan(&count), "a count")
	c.Same(count, 10, "after a batch that fails")
}

func transactions(c *own.Client, link *pgx.Conn, turn int) {
	tx, err := link.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	c.Good(err, "begin")
	_, err = tx.Exec(ctx, "SELECT set_config('TimeZone', $1, true)", c.OtherZone(turn))
	c.Good(err, "set_config")
	settings(c, tx, c.OtherZone(turn))
	inner, err := tx.Begin(ctx)
	c.Good(err, "savepoint")
	_, err = inner.Exec(ctx, "INSERT INTO own VALUES ($1, 'twice')", 1)
	c.Fails(err, "23505", "in a savepoint")
	c.Good(inner.Rollback(ctx), "back to the savepoint")
	settings(c, tx, c.OtherZone(turn))
	c.Good(tx.Commit(ctx), "commit")
	settings(c, link, c.Zone)
	err = pgx.BeginFunc(ctx, link, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM own"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT 1 / $1::int", 0)
		return err
	})
	c.Fails(err, "22012", "a transaction that fails")
	settings(c, link, c.Zone)
}

func copies(c *own.Client, link *pgx.Conn) {
	_, err := link.Exec(ctx, "CREATE TABLE copied (id int, value text)")
	c.Good(err, "create")
	count, err := link.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "value"},
		pgx.CopyFromSlice(300, func(i int) ([]any, error) { return []any{i, c.Value(i)}, nil }))
	c.Good(err, "CopyFrom")
	c.Same(count, int64(300), "CopyFrom")
	_, err = link.CopyFrom(ctx, pgx.Identifier{"own"}, []string{"id", "value"},
		pgx.CopyFromRows([][]any{{1, "twice"}}))
	c.Fails(err, "23505", "CopyFrom that fails")
	_, err = link.Exec(ctx, "DROP TABLE copied")
	c.Good(err, "drop")
}

// A named statement whose table changes under it: pgx is told by an error, and prepares it again.
func changing(c *own.Client, link *pgx.Conn) {
	_, err := link.Exec(ctx, "CREATE TABLE changing (a int)")
	c.Good(err, "create")
	_, err = link.Exec(ctx, "INSERT INTO changing VALUES (7)")
	c.Good(err, "insert")
	for step, change := range []string{"ADD COLUMN b int DEFAULT 8", "ALTER COLUMN a TYPE bigint", "ADD COLUMN c text"} {
		for range 3 {
			rows, err := link.Query(ctx, "SELECT * FROM changing")
			c.Good(err, "a changing table")
			found, err := pgx.CollectRows(rows, pgx.RowToMap)
			var known *pgconn.PgError
			if errors.As(err, &known) && known.Code == "0A000" {
				continue
			}
			c.Good(err, "a changing table")
			c.Same(len(found[0]), min(step+1, 2), "columns of a changing table")
			c.Same(fmt.Sprint(found[0]["a"]), "7", "a changing table")
			// Its parameter is of the type that it had at first, whatever becomes of the column.
			var same string
			err = link.QueryRow(ctx, "SELECT 'found' FROM changing WHERE a = $1", 7).Scan(&same)
			c.Good(err, "a changing table's parameter")
			c.Same(same, "found", "a changing table's parameter")
		}
		_, err = link.Exec(ctx, "ALTER TABLE changing "+change)
		c.Good(err, change)
	}
	_, err = link.Exec(ctx, "DROP TABLE changing")
	c.Good(err, "drop")
}

// More texts than pgx keeps: it closes the oldest, over and over.
func forgotten(c *own.Client) {
	config, err := pgx.ParseConfig(c.Words("transaction"))
	c.Good(err, "configuration")
	config.StatementCacheCapacity = 3
	link, err := pgx.ConnectConfig(ctx, config)
	c.Good(err, "connect")
	for turn := range 60 {
		var got string
		c.Good(link.QueryRow(ctx, fmt.Sprintf("SELECT $1::text || '%d'", turn%8), c.Name).Scan(&got), "forgotten")
		c.Same(got, fmt.Sprintf("%s%d", c.Name, turn%8), "a statement that was forgotten")
	}
	c.Good(link.Close(ctx), "close")
}

func pooled(c *own.Client) {
	config, err := pgxpool.ParseConfig(c.Words("transaction") + " pool_max_conns=3")
	c.Good(err, "configuration")
	pool, err := pgxpool.NewWithConfig(ctx, config)
	c.Good(err, "a pool")
	defer pool.Close()
	done := make(chan error, 10)
	for turn := range 10 {
		go func() {
			var value string
			err := pool.QueryRow(ctx, "SELECT value FROM own WHERE id = $1", turn).Scan(&value)
			if err == nil && value != c.Value(turn) {
				err = fmt.Errorf("got %s in place of %s", value, c.Value(turn))
			}
			done <- err
		}()
	}
	for range 10 {
		c.Good(<-done, "from a pool")
		settings(c, pool, c.Zone)
	}
}

func cancels(c *own.Client) {
	config, err := pgx.ParseConfig(c.Words("transaction"))
	c.Good(err, "configuration")
	// The context's end sends a cancel request; the connection stays.
	config.BuildContextWatcherHandler = func(link *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: link, DeadlineDelay: 10 * time.Second}
	}
	link, err := pgx.ConnectConfig(ctx, config)
	c.Good(err, "connect")
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	_, err = link.Exec(short, "SELECT pg_sleep(20)")
	c.Fails(err, "57014", "a cancelled sleep")
	settings(c, link, c.Zone)
	c.Good(link.Close(ctx), "close")
}

func listens(c *own.Client) {
	link := connect(c, "listen", pgx.QueryExecModeCacheStatement)
	_, err := link.Exec(ctx, "LISTEN "+c.Schema)
	c.Good(err, "LISTEN")
	other := connect(c, "transaction", pgx.QueryExecModeCacheStatement)
	for turn := range 10 {
		_, err := other.Exec(ctx, "SELECT pg_notify($1, $2)", c.Schema, c.Value(turn))
		c.Good(err, "NOTIFY")
	}
	for turn := range 10 {
		limited, stop := context.WithTimeout(ctx, 20*time.Second)
		note, err := link.WaitForNotification(limited)
		stop()
		c.Good(err, "WaitForNotification")
		c.Same(note.Payload, c.Value(turn), "a notification")
	}
	c.Good(link.Close(ctx), "close")
	c.Good(other.Close(ctx), "close")
}

func client(c *own.Client) {
	bare, err := pgx.Connect(ctx, own.Bare("transaction"))
	c.Good(err, "connect")
	_, err = bare.Exec(ctx, c.Statements())
	c.Good(err, "the schema")
	c.Good(bare.Close(ctx), "close")
	for base, how := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		link := connect(c, "transaction", how)
		for turn := range rounds {
			queries(c, link, turn)
			batches(c, link, base*rounds+turn)
			transactions(c, link, turn)
		}
		if how != pgx.QueryExecModeSimpleProtocol {
			copies(c, link)
		}
		if how == pgx.QueryExecModeCacheStatement {
			c.Good(link.DeallocateAll(ctx), "DEALLOCATE ALL")
			queries(c, link, 0)
		}
		c.Good(link.Close(ctx), "close")
	}
	pooled(c)
	forgotten(c)
	link := connect(c, "statement", pgx.QueryExecModeCacheStatement)
	for turn := range rounds {
		queries(c, link, turn)
		settings(c, link, c.Zone)
	}
	c.Good(link.Close(ctx), "close")
	if c.Number < 2 {
		cancels(c)
	}
	if c.Number < 4 {
		listens(c)
	}
	link = connect(c, "transaction", pgx.QueryExecModeCacheStatement)
	changing(c, link)
	c.Good(link.Close(ctx), "close")
}

func main() { own.Run("pgx", client) }

// pgx under database/sql, as most programs in Go use it: a pool of database/sql's own, statements kept by pgx.
package main

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"firepool/tests/clients/own"

	_ "github.com/jackc/pgx/v5/stdlib"
)

const rounds = 20

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

var ctx = context.Background()

func settings(c *own.Client, link querier, zone string) {
	var got, name, schema string
	c.Good(link.QueryRowContext(ctx, own.Settings).Scan(&got, &name, &schema), "settings")
	c.Same([]string{got, name, schema}, []string{zone, c.Name, c.Schema}, "settings")
}

func transactions(c *own.Client, db *sql.DB, kept *sql.Stmt, turn int) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: turn%2 == 0})
	c.Good(err, "begin")
	var isolation, readOnly string
	c.Good(tx.QueryRow("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").
		Scan(&isolation, &readOnly), "a transaction's properties")
	expected := map[bool]string{true: "on", false: "off"}[turn%2 == 0]
	c.Same([]string{isolation, readOnly}, []string{"repeatable read", expected}, "a transaction's properties")
	var value string
	c.Good(tx.Stmt(kept).QueryRow(turn%10).Scan(&value), "a kept statement")
	c.Same(value, c.Value(turn%10), "a kept statement")
	_, err = tx.Exec("INSERT INTO own VALUES ($1, $2)", 100+turn, c.Name)
	if turn%2 == 0 {
		c.Fails(err, "25006", "an insert in a transaction that only reads")
		c.Good(tx.Rollback(), "rollback")
	} else {
		c.Good(err, "an insert")
		c.Good(tx.Commit(), "commit")
	}
}

// One connection of the pool, for as long as this takes: its settings stay with it, and with nothing else.
func reserved(c *own.Client, db *sql.DB, turn int) {
	link, err := db.Conn(ctx)
	c.Good(err, "a connection")
	_, err = link.ExecContext(ctx, "SET TimeZone TO '"+c.OtherZone(turn)+"'")
	c.Good(err, "SET")
	settings(c, link, c.OtherZone(turn))
	_, err = link.ExecContext(ctx, "RESET TimeZone")
	c.Good(err, "RESET")
	settings(c, link, c.Zone)
	c.Good(link.Close(), "close")
}

func client(c *own.Client) {
	bare, err := sql.Open("pgx", own.Bare("transaction")+" default_query_exec_mode=simple_protocol")
	c.Good(err, "open")
	_, err = bare.Exec(c.Statements())
	c.Good(err, "the schema")
	c.Good(bare.Close(), "close")
	db, err := sql.Open("pgx", c.Words("transaction"))
	c.Good(err, "open")
	db.SetMaxOpenConns(3)
	kept, err := db.Prepare("SELECT value FROM own WHERE id = $1")
	c.Good(err, "prepare")
	for turn := range rounds {
		transactions(c, db, kept, turn)
		reserved(c, db, turn)
		settings(c, db, c.Zone)
		var wait sync.WaitGroup
		got := make([]string, 10)
		for i := range got {
			wait.Go(func() { _ = kept.QueryRow(i).Scan(&got[i]) })
		}
		wait.Wait()
		for i, value := range got {
			c.Same(value, c.Value(i), "a kept statement, ten times at once")
		}
	}
	// database/sql closes connections whose statement was cut short, and opens others.
	if c.Number < 2 {
		short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err = db.ExecContext(short, "SELECT pg_sleep(20)")
		stop()
		c.Same(err != nil, true, "a statement that was cut short")
		settings(c, db, c.Zone)
	}
	c.Good(kept.Close(), "close")
	c.Good(db.Close(), "close")
	db, err = sql.Open("pgx", c.Words("statement"))
	c.Good(err, "open")
	db.SetMaxOpenConns(1)
	for range rounds {
		settings(c, db, c.Zone)
	}
	c.Good(db.Close(), "close")
}

func main() { own.Run("stdlib", client) }

// lib/pq under database/sql: statements that are prepared for one execution or for many, COPY, its listener.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"firepool/tests/clients/own"

	"github.com/lib/pq"
)

const rounds = 30

func open(c *own.Client, words string) *sql.DB {
	db, err := sql.Open("postgres", words)
	c.Good(err, "open")
	db.SetMaxOpenConns(2)
	return db
}

type querier interface {
	QueryRow(query string, args ...any) *sql.Row
}

func settings(c *own.Client, link querier) {
	var zone, name, schema string
	c.Good(link.QueryRow(own.Settings).Scan(&zone, &name, &schema), "settings")
	c.Same([]string{zone, name, schema}, []string{c.Zone, c.Name, c.Schema}, "settings")
}

func queries(c *own.Client, db *sql.DB, kept *sql.Stmt, turn int) {
	number := (c.Number + turn) % 10
	var id int
	var value string
	c.Good(db.QueryRow("SELECT id, value FROM own WHERE id = $1", number).Scan(&id, &value), "a row")
	c.Same([]any{id, value}, []any{number, c.Value(number)}, "a row")
	c.Good(kept.QueryRow(number).Scan(&value), "a kept statement")
	c.Same(value, c.Value(number), "a kept statement")
	var list []int64
	c.Good(db.QueryRow("SELECT $1::int8[]", pq.Array([]int64{1, int64(turn)})).Scan(pq.Array(&list)), "an array")
	c.Same(list, []int64{1, int64(turn)}, "an array")
	_, err := db.Exec("SELECT 1 / $1::int", 0)
	var known *pq.Error
	c.Same(errors.As(err, &known) && known.Code == "22012", true, "an error")
}

func transactions(c *own.Client, db *sql.DB, kept *sql.Stmt, turn int) {
	tx, err := db.Begin()
	c.Good(err, "begin")
	_, err = tx.Exec("INSERT INTO own VALUES ($1, $2)", 100+turn, c.Value(turn))
	c.Good(err, "insert")
	settings(c, tx)
	var value string
	c.Good(tx.Stmt(kept).QueryRow(3).Scan(&value), "a kept statement in a transaction")
	c.Same(value, c.Value(3), "a kept statement in a transaction")
	c.Good(tx.Commit(), "commit")
	tx, err = db.Begin()
	c.Good(err, "begin")
	_, err = tx.Exec(fmt.Sprintf("SET TimeZone TO '%s'; DELETE FROM own", c.OtherZone(turn)))
	c.Good(err, "delete")
	c.Good(tx.Rollback(), "rollback")
	settings(c, db)
	var count int
	c.Good(db.QueryRow("SELECT count(*) FROM own").Scan(&count), "a count")
	c.Same(count, 11+turn, "after a rollback")
}

func copies(c *own.Client, db *sql.DB) {
	tx, err := db.Begin()
	c.Good(err, "begin")
	_, err = tx.Exec("CREATE TABLE copied (id int, value text)")
	c.Good(err, "create")
	copied, err := tx.Prepare(pq.CopyIn("copied", "id", "value"))
	c.Good(err, "CopyIn")
	for i := range 200 {
		_, err = copied.Exec(i, c.Value(i))
		c.Good(err, "CopyIn")
	}
	_, err = copied.Exec()
	c.Good(err, "CopyIn's end")
	c.Good(copied.Close(), "CopyIn's end")
	var count int
	c.Good(tx.QueryRow("SELECT count(*) FROM copied WHERE value LIKE $1", c.Name+":%").Scan(&count), "a count")
	c.Same(count, 200, "CopyIn")
	c.Good(tx.Rollback(), "rollback")
}

func listens(c *own.Client) {
	listener := pq.NewListener(c.Words("listen"), time.Second, time.Second, nil)
	c.Good(listener.Listen(c.Schema), "LISTEN")
	db := open(c, c.Words("transaction"))
	for turn := range 10 {
		_, err := db.Exec("SELECT pg_notify($1, $2)", c.Schema, c.Value(turn))
		c.Good(err, "NOTIFY")
	}
	for turn := range 10 {
		select {
		case note := <-listener.Notify:
			c.Same(note.Extra, c.Value(turn), "a notification")
		case <-time.After(20 * time.Second):
			c.Good(errors.New("no notification for 20 s"), "LISTEN")
		}
	}
	c.Good(listener.Ping(), "ping")
	c.Good(listener.Close(), "close")
	c.Good(db.Close(), "close")
}

func client(c *own.Client) {
	bare := open(c, own.Bare("transaction"))
	_, err := bare.Exec(c.Statements())
	c.Good(err, "the schema")
	c.Good(bare.Close(), "close")
	for _, more := range []string{"", " binary_parameters=yes"} {
		db := open(c, c.Words("transaction")+more)
		kept, err := db.Prepare("SELECT value FROM own WHERE id = $1")
		c.Good(err, "prepare")
		for turn := range rounds {
			queries(c, db, kept, turn)
			transactions(c, db, kept, turn)
			if turn%10 == 0 && more == "" {
				copies(c, db)
			}
		}
		_, err = db.Exec("DELETE FROM own WHERE id >= 100")
		c.Good(err, "delete")
		c.Good(kept.Close(), "close")
		c.Good(db.Close(), "close")
	}
	db := open(c, c.Words("statement"))
	for range rounds {
		settings(c, db)
	}
	c.Good(db.Close(), "close")
	if c.Number < 4 {
		listens(c)
	}
}

func main() { own.Run("pq", client) }

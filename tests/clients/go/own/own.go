// Package own is what every program does: many clients at once, each with a schema, a time zone and a name of its own.
//
// A client calls its tables by their names alone. So whoever gets another client's search path reads another client's
// rows, and finds out.
package own

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
)

// Clients is how many there are at once.
const Clients = 20

var zones = []string{"UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "Australia/Sydney"}

// Settings asks for what differs between clients.
const Settings = "SELECT current_setting('TimeZone'), current_setting('application_name'), current_schema()::text"

// Client has values of its own, and counts what it has checked.
type Client struct {
	Number       int
	Name, Schema string
	Zone         string
	checks       int
}

// failed ends a client; Run tells about it.
type failed struct{ error }

// Same checks one thing.
func (c *Client) Same(got, expected any, what string) {
	c.checks++
	if !reflect.DeepEqual(got, expected) {
		panic(failed{fmt.Errorf("client %d: %s: got %v, expected %v", c.Number, what, got, expected)})
	}
}

// Good fails where there is an error.
func (c *Client) Good(err error, what string) {
	if err != nil {
		panic(failed{fmt.Errorf("client %d: %s: %w", c.Number, what, err)})
	}
}

// Fails checks for an error with this SQLSTATE.
func (c *Client) Fails(err error, sqlstate, what string) {
	var known interface{ SQLState() string }
	if !errors.As(err, &known) {
		panic(failed{fmt.Errorf("client %d: %s: expected %s, got %w", c.Number, what, sqlstate, err)})
	}
	c.Same(known.SQLState(), sqlstate, what)
}

// OtherZone is another one in each turn.
func (c *Client) OtherZone(turn int) string { return zones[(c.Number+turn)%len(zones)] }

// Value is what a row of this client's has.
func (c *Client) Value(row int) string { return fmt.Sprintf("%s:%d", c.Name, row) }

// Statements make the schema: ten rows, whose values name their client.
func (c *Client) Statements() string {
	return fmt.Sprintf(`DROP SCHEMA IF EXISTS %[1]s CASCADE; CREATE SCHEMA %[1]s;
		CREATE TABLE %[1]s.own (id int PRIMARY KEY, value text NOT NULL);
		INSERT INTO %[1]s.own SELECT i, '%[2]s:' || i FROM generate_series(0, 9) i`, c.Schema, c.Name)
}

// Database is the name of the database that leads to this mode's route.
func Database(mode string) string { return os.Getenv("CLIENTS_" + strings.ToUpper(mode)) }

// Bare are the words of a connection without settings.
func Bare(mode string) string { return "sslmode=disable dbname=" + Database(mode) }

// Words are those of a connection of this client's; where the server is, is in the environment.
func (c *Client) Words(mode string) string {
	return fmt.Sprintf("%s application_name=%s timezone=%s search_path=%s", Bare(mode), c.Name, c.Zone, c.Schema)
}

// Run runs so many clients at once, and ends the process.
func Run(program string, client func(*Client)) {
	var wait sync.WaitGroup
	all, problems := make([]*Client, Clients), make(chan error, Clients)
	for number := range all {
		own := &Client{Number: number, Name: fmt.Sprintf("%s-%d", program, number),
			Schema: fmt.Sprintf("%s_%d", program, number), Zone: zones[number%len(zones)]}
		all[number] = own
		wait.Go(func() {
			defer func() {
				if problem := recover(); problem != nil {
					if known, ok := problem.(failed); ok {
						problems <- known.error
						return
					}
					panic(problem)
				}
			}()
			client(own)
		})
	}
	wait.Wait()
	close(problems)
	checks, bad := 0, len(problems)
	for problem := range problems {
		fmt.Println(problem)
	}
	for _, own := range all {
		checks += own.checks
	}
	if bad > 0 {
		fmt.Printf("%d of %d clients failed\n", bad, Clients)
		os.Exit(1)
	}
	fmt.Printf("ok %d checks\n", checks)
}

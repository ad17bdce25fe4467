// pgx over TLS: the server's certificate is verified, and SCRAM is bound to the channel.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var checks int

func check(right bool, what any) {
	checks++
	if !right {
		fmt.Println("wrong:", what)
		os.Exit(1)
	}
}

func connect(ca, password, binding string) (*pgx.Conn, error) {
	return pgx.Connect(context.Background(), fmt.Sprintf(
		"host=localhost port=%s user=%s password=%s dbname=%s sslmode=verify-full sslrootcert=%s channel_binding=%s",
		os.Getenv("PGPORT"), os.Getenv("PGUSER"), password, os.Getenv("CLIENTS_TRANSACTION"), ca, binding))
}

func main() {
	ctx, password, ca := context.Background(), os.Getenv("PGPASSWORD"), os.Getenv("CLIENTS_CA")
	for _, binding := range []string{"require", "prefer", "disable"} {
		link, err := connect(ca, password, binding)
		check(err == nil, err)
		var encrypted bool
		err = link.QueryRow(ctx, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted)
		check(err == nil && encrypted, "the other leg")
		for _, length := range []int{1, 70_000, 3_000_000} {
			var got string
			err = link.QueryRow(ctx, "SELECT $1::text", strings.Repeat("x", length)).Scan(&got)
			check(err == nil && len(got) == length, err)
		}
		check(link.Close(ctx) == nil, "close")
	}
	_, err := connect(ca, "wrong", "require")
	var said *pgconn.PgError
	check(errors.As(err, &said) && said.Code == "28P01", err)
	_, err = connect(os.Getenv("CLIENTS_OTHER_CA"), password, "require")
	check(err != nil && strings.Contains(err.Error(), "certificate"), err)
	fmt.Printf("ok %d checks\n", checks)
}

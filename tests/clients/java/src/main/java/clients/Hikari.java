package clients;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** HikariCP over pgjdbc: a pool for each client, which resets what was changed as a connection comes back. */
public final class Hikari {
    private static final int ROUNDS = 30;

    private Hikari() { }

    private static HikariDataSource pool(Own own, String mode) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(Own.url(mode));
        config.setDataSourceProperties(own.properties());
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setMaximumPoolSize(2);
        config.setMinimumIdle(1);
        config.setSchema(own.schema);
        config.setConnectionInitSql("SET TimeZone TO '" + own.zone + "'");
        config.setConnectionTimeout(30_000);
        return new HikariDataSource(config);
    }

    private static void round(Own own, HikariDataSource pool, int turn) throws SQLException {
        try (Connection link = pool.getConnection()) {
            own.settings(link, own.zone);
            int number = (own.number + turn) % 10;
            own.same(Own.row(link, "SELECT value FROM own WHERE id = ?", number), List.of(own.value(number)), "a row");
            // The pool puts these back.
            link.setAutoCommit(false);
            link.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            link.setReadOnly(true);
            link.setSchema("pg_catalog");
            own.same(Own.row(link, "SELECT current_schema()::text, current_setting('transaction_isolation'),"
                + " current_setting('transaction_read_only')"), List.of("pg_catalog", "repeatable read", "on"),
                "changes");
            link.commit();
        }
        try (Connection link = pool.getConnection()) {
            own.same(Own.row(link, "SELECT current_setting('default_transaction_isolation'),"
                + " current_setting('transaction_read_only')"), List.of("read committed", "off"), "put back");
            link.setAutoCommit(false);
            Own.row(link, "INSERT INTO own VALUES (?, ?) RETURNING id", 100 + turn, own.name);
            // It comes back with a transaction open, which the pool rolls back.
        }
        try (Connection link = pool.getConnection()) {
            own.same(Own.row(link, "SELECT count(*) FROM own"), List.of("10"), "rolled back by the pool");
        }
    }

    private static void client(Own own) throws Exception {
        own.prepare();
        try (HikariDataSource pool = pool(own, "transaction")) {
            for (int turn = 0; turn < ROUNDS; turn++) {
                round(own, pool, turn);
            }
            var threads = Executors.newFixedThreadPool(4);
            List<Future<List<String>>> all = new java.util.ArrayList<>();
            for (int i = 0; i < 40; i++) {
                int number = i % 10;
                all.add(threads.submit(() -> {
                    try (Connection link = pool.getConnection()) {
                        return Own.row(link, "SELECT value FROM own WHERE id = ?", number);
                    }
                }));
            }
            for (int i = 0; i < 40; i++) {
                own.same(all.get(i).get(), List.of(own.value(i % 10)), "four threads");
            }
            threads.shutdown();
        }
        try (HikariDataSource pool = pool(own, "statement")) {
            for (int turn = 0; turn < ROUNDS; turn++) {
                try (Connection link = pool.getConnection()) {
                    own.settings(link, own.zone);
                }
            }
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Own.clients("hikari", Own.CLIENTS, Hikari::client);
    }
}

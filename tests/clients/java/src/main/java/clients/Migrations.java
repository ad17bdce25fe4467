package clients;

import java.sql.Connection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.flywaydb.core.Flyway;
import org.flywaydb.core.api.configuration.FluentConfiguration;
import org.flywaydb.core.api.output.MigrateResult;
import org.flywaydb.database.postgresql.PostgreSQLConfigurationExtension;

/** Flyway: migrations behind an advisory lock, of a session and of a transaction. */
public final class Migrations {
    private static final int CLIENTS = 6;
    /** Flyway holds its lock in one connection and migrates in another: two at once need all of a small pool. */
    private static final Map<String, Semaphore> ROOM = Map.of("transaction", new Semaphore(1), "session",
        new Semaphore(1), "listen", new Semaphore(3));

    private static final AtomicInteger DONE = new AtomicInteger();
    private static final CountDownLatch READY = new CountDownLatch(1);
    private static final CountDownLatch ARRIVED = new CountDownLatch(CLIENTS);

    private Migrations() { }

    private static FluentConfiguration flyway(Own own, String mode, String schema, boolean transactional) {
        FluentConfiguration all = Flyway.configure()
            .dataSource(Own.url(mode) + "?sslmode=disable&ApplicationName=" + own.name, System.getenv("PGUSER"),
                System.getenv("PGPASSWORD"))
            .schemas(schema).createSchemas(true).cleanDisabled(false).locations("classpath:db/migration");
        all.getConfigurationExtension(PostgreSQLConfigurationExtension.class).setTransactionalLock(transactional);
        return all;
    }

    private static MigrateResult migrate(Own own, String mode, String schema, boolean transactional) throws Exception {
        ROOM.get(mode).acquire();
        try {
            return flyway(own, mode, schema, transactional).load().migrate();
        } finally {
            ROOM.get(mode).release();
        }
    }

    private static void alone(Own own, String mode, boolean transactional) throws Exception {
        ROOM.get(mode).acquire();
        try {
            flyway(own, mode, own.schema, transactional).load().clean();
        } finally {
            ROOM.get(mode).release();
        }
        own.same(migrate(own, mode, own.schema, transactional).migrationsExecuted, 3, "migrations");
        own.same(migrate(own, mode, own.schema, transactional).migrationsExecuted, 0, "migrations again");
        try (Connection link = own.connect("transaction")) {
            own.same(Own.row(link, "SELECT count(*), max(name) FROM person"), List.of("100", "person 99"), "the rows");
            own.settings(link, own.zone);
        }
    }

    /** Three who migrate the same schema at once: every migration is done once. */
    private static void together(Own own) throws Exception {
        int done = migrate(own, "listen", "flyway_together", own.number % 2 == 0).migrationsExecuted;
        DONE.addAndGet(done);
        ARRIVED.countDown();
        ARRIVED.await(30, TimeUnit.SECONDS);
        own.same(DONE.get(), 3, "migrations, by all together");
    }

    private static void client(Own own) throws Exception {
        alone(own, "transaction", true);
        alone(own, "transaction", false);
        alone(own, "session", true);
        alone(own, "session", false);
        if (own.number == 0) {
            flyway(own, "session", "flyway_together", true).load().clean();
            READY.countDown();
        }
        READY.await(30, TimeUnit.SECONDS);
        together(own);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Own.clients("flyway", CLIENTS, Migrations::client);
    }
}

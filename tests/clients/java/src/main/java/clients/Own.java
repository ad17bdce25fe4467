package clients;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;

/**
 * What every program does: many clients at once, each with a schema, a time zone and a name of its own.
 *
 * <p>A client calls its tables by their names alone. So whoever gets another client's search path reads another
 * client's rows, and finds out.
 */
final class Own {
    static final int CLIENTS = 20;
    private static final String[] ZONES =
        {"UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "Australia/Sydney"};

    final int number;
    final String name;
    final String schema;
    final String zone;
    int checks;

    private Own(String program, int number) {
        this.number = number;
        name = program + "-" + number;
        schema = program + "_" + number;
        zone = ZONES[number % ZONES.length];
    }

    /** What a client does; whatever it throws ends it. */
    interface Client {
        void run(Own own) throws Exception;
    }

    /** A statement that is to fail. */
    interface Work {
        void run() throws SQLException;
    }

    void same(Object got, Object expected, String what) {
        checks++;
        if (!Objects.deepEquals(got, expected)) {
            throw new AssertionError("client " + number + ": " + what + ": got " + got + ", expected " + expected);
        }
    }

    void fails(String sqlstate, Work work) throws SQLException {
        try {
            work.run();
        } catch (SQLException error) {
            if (!sqlstate.equals(error.getSQLState())) {
                throw error;
            }
            checks++;
            return;
        }
        throw new AssertionError("client " + number + ": expected " + sqlstate + ", and it succeeded");
    }

    String otherZone(int turn) {
        return ZONES[(number + turn) % ZONES.length];
    }

    String value(int row) {
        return name + ":" + row;
    }

    /** The schema: ten rows, whose values name their client. */
    String statements() {
        return "DROP SCHEMA IF EXISTS " + schema + " CASCADE; CREATE SCHEMA " + schema
            + "; CREATE TABLE " + schema + ".own (id int PRIMARY KEY, value text NOT NULL)"
            + "; INSERT INTO " + schema + ".own SELECT i, '" + name + ":' || i FROM generate_series(0, 9) i";
    }

    static String url(String mode) {
        return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("CLIENTS_" + mode.toUpperCase(java.util.Locale.ROOT));
    }

    Properties properties(String... more) {
        Properties all = new Properties();
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", System.getenv("PGPASSWORD"));
        all.setProperty("sslmode", "disable");
        all.setProperty("ApplicationName", name);
        all.setProperty("currentSchema", schema);
        all.setProperty("prepareThreshold", "1");
        for (int i = 0; i < more.length; i += 2) {
            all.setProperty(more[i], more[i + 1]);
        }
        return all;
    }

    /** The zone comes later: pgjdbc's startup packet always has Java's own. */
    Connection connect(String mode, String... more) throws SQLException {
        Connection link = DriverManager.getConnection(url(mode), properties(more));
        execute(link, "SET TimeZone TO '" + zone + "'");
        return link;
    }

    /** The schema, made anew. */
    void prepare() throws SQLException {
        try (Connection link = DriverManager.getConnection(url("transaction"), properties())) {
            execute(link, statements());
        }
    }

    static void execute(Connection link, String text) throws SQLException {
        try (Statement statement = link.createStatement()) {
            statement.execute(text);
        }
    }

    /** The first row, as texts. */
    static List<String> row(Connection link, String text, Object... values) throws SQLException {
        try (var statement = link.prepareStatement(text)) {
            for (int i = 0; i < values.length; i++) {
                statement.setObject(i + 1, values[i]);
            }
            try (ResultSet found = statement.executeQuery()) {
                found.next();
                List<String> row = new ArrayList<>();
                for (int i = 1; i <= found.getMetaData().getColumnCount(); i++) {
                    row.add(found.getString(i));
                }
                return row;
            }
        }
    }

    void settings(Connection link, String expectedZone) throws SQLException {
        List<String> got = row(link, "SELECT current_setting('TimeZone'), current_setting('application_name'),"
            + " current_schema()::text");
        same(got, List.of(expectedZone, name, schema), "settings");
    }

    /** Runs so many clients at once, and ends the process. */
    static void clients(String program, int count, Client client) throws InterruptedException {
        Own[] owns = new Own[count];
        List<Throwable> problems = java.util.Collections.synchronizedList(new ArrayList<>());
        Thread[] threads = new Thread[count];
        for (int i = 0; i < count; i++) {
            Own own = owns[i] = new Own(program, i);
            threads[i] = new Thread(() -> {
                try {
                    client.run(own);
                } catch (Throwable problem) {
                    problems.add(new RuntimeException("client " + own.number, problem));
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (!problems.isEmpty()) {
            problems.stream().limit(2).forEach(problem -> problem.printStackTrace(System.out));
            System.out.println(problems.size() + " of " + count + " clients failed");
            System.exit(1);
        }
        System.out.println("ok " + Arrays.stream(owns).mapToInt(own -> own.checks).sum() + " checks");
        System.exit(0);
    }
}

package clients;

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** pgjdbc: prepared by the server from the first execution on, savepoints of its own, batches, cursors, metadata. */
public final class Jdbc {
    private static final int ROUNDS = 15;

    private Jdbc() { }

    private static void queries(Own own, Connection link, int turn) throws SQLException {
        int number = (own.number + turn) % 10;
        own.same(Own.row(link, "SELECT id, value FROM own WHERE id = ?", number),
            List.of("" + number, own.value(number)), "a prepared statement");
        own.same(Own.row(link, "SELECT ?::int + ?, ?::text", turn, number, own.name),
            List.of("" + (turn + number), own.name), "parameters");
        own.same(Own.row(link, "SELECT value || '" + turn + "' FROM own WHERE id = ?", number),
            List.of(own.value(number) + turn), "a text of its own");
        try (Statement several = link.createStatement()) {
            several.execute("SELECT 1; SELECT 2; SHOW application_name");
            several.getMoreResults();
            several.getMoreResults();
            ResultSet last = several.getResultSet();
            last.next();
            own.same(last.getString(1), own.name, "several statements");
        }
    }

    /** With autosave, a transaction goes on after an error: pgjdbc goes back to its savepoint. */
    private static void saved(Own own, int rounds, String autosave) throws SQLException {
        try (Connection link = own.connect("transaction", "autosave", autosave)) {
            link.setAutoCommit(false);
            for (int turn = 0; turn < rounds; turn++) {
                queries(own, link, turn);
                if (autosave.equals("always")) {
                    own.fails("23505", () -> Own.execute(link, "INSERT INTO own VALUES (1, 'twice')"));
                }
                own.settings(link, own.zone);
                link.commit();
            }
        }
    }

    private static void transactions(Own own, Connection link, int turn) throws SQLException {
        link.setAutoCommit(false);
        link.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        Own.execute(link, "SET LOCAL TimeZone TO '" + own.otherZone(turn) + "'");
        own.settings(link, own.otherZone(turn));
        own.same(Own.row(link, "SHOW transaction_isolation"), List.of("serializable"), "an isolation level");
        link.commit();
        own.settings(link, own.zone);
        var savepoint = link.setSavepoint("mine");
        own.fails("22012", () -> Own.row(link, "SELECT 1 / ?::int", 0));
        link.rollback(savepoint);
        own.settings(link, own.zone);
        Own.execute(link, "SET TimeZone TO '" + own.otherZone(turn) + "'");
        link.rollback();
        own.settings(link, own.zone);
        link.commit();
        link.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        link.setReadOnly(true);
        own.fails("25006", () -> Own.execute(link, "INSERT INTO own VALUES (99, 'not here')"));
        link.rollback();
        link.setReadOnly(false);
        link.setAutoCommit(true);
        own.same(Own.row(link, "SHOW transaction_isolation"), List.of("read committed"), "as before");
    }

    private static void batches(Own own, Connection link, int turn) throws SQLException {
        try (PreparedStatement insert =
                 link.prepareStatement("INSERT INTO own VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 50; i++) {
                insert.setInt(1, 1000 + i);
                insert.setString(2, own.value(i));
                insert.addBatch();
            }
            own.same(insert.executeBatch().length, 50, "a batch");
            int keys = 0;
            for (ResultSet found = insert.getGeneratedKeys(); found.next(); keys++) {
                own.same(found.getString("value"), own.value(keys), "a batch's keys");
            }
            own.same(keys, 50, "a batch's keys");
        }
        try (Statement remove = link.createStatement()) {
            own.same(remove.executeUpdate("DELETE FROM own WHERE id >= 1000"), 50, "a batch in round " + turn);
        }
    }

    private static void cursors(Own own, Connection link) throws SQLException {
        link.setAutoCommit(false);
        try (PreparedStatement many = link.prepareStatement("SELECT ?::text || i FROM generate_series(1, 45) i")) {
            many.setString(1, own.name);
            many.setFetchSize(10);
            int count = 0;
            for (ResultSet found = many.executeQuery(); found.next();) {
                own.same(found.getString(1), own.name + ++count, "a cursor");
                if (count % 10 == 5) {
                    queries(own, link, count);
                }
            }
            own.same(count, 45, "a cursor");
        }
        link.commit();
        link.setAutoCommit(true);
    }

    private static void schemas(Own own, Connection link) throws SQLException {
        own.same(link.getSchema(), own.schema, "getSchema");
        link.setSchema("pg_catalog");
        own.same(Own.row(link, "SELECT current_schema()::text"), List.of("pg_catalog"), "setSchema");
        link.setSchema(own.schema);
        link.setClientInfo("ApplicationName", own.name + "-changed");
        own.same(Own.row(link, "SHOW application_name"), List.of(own.name + "-changed"), "setClientInfo");
        link.setClientInfo("ApplicationName", own.name);
        own.settings(link, own.zone);
    }

    private static void metadata(Own own, Connection link) throws SQLException {
        DatabaseMetaData data = link.getMetaData();
        own.same(column(data.getTables(null, own.schema, "%", null), "TABLE_NAME"), List.of("own", "own_pkey"),
            "getTables");
        own.same(column(data.getColumns(null, own.schema, "own", null), "COLUMN_NAME"), List.of("id", "value"),
            "getColumns");
        own.same(column(data.getPrimaryKeys(null, own.schema, "own"), "COLUMN_NAME"), List.of("id"), "keys");
        own.same(column(data.getIndexInfo(null, own.schema, "own", true, true), "INDEX_NAME"), List.of("own_pkey"),
            "getIndexInfo");
    }

    private static List<String> column(ResultSet found, String name) throws SQLException {
        List<String> all = new ArrayList<>();
        while (found.next()) {
            all.add(found.getString(name));
        }
        return all.stream().sorted().toList();
    }

    /** COPY, and large objects by the protocol's function calls. */
    private static void copies(Own own, Connection link) throws Exception {
        link.setAutoCommit(false);
        Own.execute(link, "CREATE TABLE copied (id int, value text)");
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 200; i++) {
            lines.append(i).append('\t').append(own.value(i)).append('\n');
        }
        var copy = link.unwrap(PGConnection.class).getCopyAPI();
        own.same(copy.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())), 200L, "copyIn");
        StringWriter out = new StringWriter();
        copy.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out);
        own.same(out.toString(), lines.toString(), "copyOut");
        LargeObjectManager manager = link.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = manager.createLO();
        LargeObject large = manager.open(oid, LargeObjectManager.READWRITE);
        large.write(own.name.getBytes());
        large.seek(0);
        own.same(new String(large.read(100)), own.name, "a large object");
        large.close();
        link.rollback();
        link.setAutoCommit(true);
    }

    /** pgjdbc is told by an error, and outside of a transaction prepares again by itself. */
    private static void changing(Own own, Connection link) throws SQLException {
        Own.execute(link, "CREATE TABLE changing (a int); INSERT INTO changing VALUES (7)");
        List<String> expected = new ArrayList<>(List.of("7"));
        for (String change : List.of("ADD COLUMN b int DEFAULT 8", "ALTER COLUMN a TYPE bigint",
                "ADD COLUMN c int DEFAULT 9")) {
            for (int i = 0; i < 7; i++) {
                own.same(Own.row(link, "SELECT * FROM changing"), expected, "a changing table");
                own.same(Own.row(link, "SELECT 'found' FROM changing WHERE a = ?", 7), List.of("found"), "a parameter");
            }
            Own.execute(link, "ALTER TABLE changing " + change);
            if (change.startsWith("ADD")) {
                expected.add(change.substring(change.length() - 1));
            }
        }
        Own.execute(link, "DROP TABLE changing");
    }

    /** More texts than pgjdbc keeps: it closes the oldest, over and over. */
    private static void forgotten(Own own) throws SQLException {
        try (Connection link = own.connect("transaction", "preparedStatementCacheQueries", "3")) {
            for (int turn = 0; turn < 60; turn++) {
                own.same(Own.row(link, "SELECT ?::text || '" + turn % 8 + "'", own.name), List.of(own.name + turn % 8),
                    "a statement that was forgotten");
            }
        }
    }

    private static void cancels(Own own, Connection link) throws SQLException {
        try (Statement statement = link.createStatement()) {
            statement.setQueryTimeout(1);
            own.fails("57014", () -> statement.execute("SELECT pg_sleep(20)"));
        }
        own.settings(link, own.zone);
    }

    private static void listens(Own own) throws SQLException {
        try (Connection link = own.connect("listen"); Connection other = own.connect("transaction")) {
            Own.execute(link, "LISTEN " + own.schema);
            List<String> got = new ArrayList<>();
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                Own.row(other, "SELECT pg_notify(?, ?)", own.schema, own.value(i));
                expected.add(own.value(i));
            }
            for (int i = 0; i < 40 && got.size() < 10; i++) {
                for (var note : link.unwrap(PGConnection.class).getNotifications(500)) {
                    got.add(note.getParameter());
                }
            }
            own.same(got, expected, "notifications");
            Own.execute(link, "UNLISTEN *");
        }
    }

    private static void client(Own own) throws Exception {
        own.prepare();
        try (Connection link = own.connect("transaction", "reWriteBatchedInserts", "true")) {
            for (int turn = 0; turn < ROUNDS; turn++) {
                queries(own, link, turn);
                transactions(own, link, turn);
                if (turn % 5 == 0) {
                    batches(own, link, turn);
                    cursors(own, link);
                    schemas(own, link);
                    metadata(own, link);
                    copies(own, link);
                }
            }
            changing(own, link);
            if (own.number < 2) {
                cancels(own, link);
            }
        }
        forgotten(own);
        saved(own, ROUNDS, "always");
        saved(own, 5, "conservative");
        for (String how : List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything")) {
            try (Connection link = own.connect("transaction", "preferQueryMode", how)) {
                for (int turn = 0; turn < 5; turn++) {
                    queries(own, link, turn);
                    batches(own, link, turn);
                }
            }
        }
        try (Connection link = own.connect("statement")) {
            for (int turn = 0; turn < ROUNDS; turn++) {
                queries(own, link, turn);
                own.settings(link, own.zone);
            }
        }
        if (own.number < 4) {
            listens(own);
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Own.clients("jdbc", Own.CLIENTS, Jdbc::client);
    }
}

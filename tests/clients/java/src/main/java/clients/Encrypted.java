package clients;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

/** pgjdbc over TLS: the server's certificate is verified, and SCRAM is bound to the channel. */
public final class Encrypted {
    private static int checks;

    private Encrypted() {
    }

    private static void check(boolean right, Object what) {
        checks++;
        if (!right) {
            throw new IllegalStateException("wrong: " + what);
        }
    }

    private static Connection connect(String authority, String password, String binding) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", password);
        all.setProperty("sslmode", "verify-full");
        all.setProperty("sslrootcert", System.getenv(authority));
        all.setProperty("channelBinding", binding);
        all.setProperty("prepareThreshold", "1");
        return DriverManager.getConnection("jdbc:postgresql://localhost:" + System.getenv("PGPORT") + "/"
            + System.getenv("CLIENTS_TRANSACTION"), all);
    }

    private static void use(Connection link) throws SQLException {
        try (PreparedStatement asks =
                link.prepareStatement("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
                ResultSet got = asks.executeQuery()) {
            check(got.next() && got.getBoolean(1), "the other leg");
        }
        for (int length : new int[] {1, 70_000, 3_000_000}) {
            try (PreparedStatement asks = link.prepareStatement("SELECT ?::text")) {
                asks.setString(1, "x".repeat(length));
                try (ResultSet got = asks.executeQuery()) {
                    check(got.next() && got.getString(1).length() == length, length + " bytes");
                }
            }
        }
    }

    private static void fails(String state, String authority, String password) {
        try (Connection link = connect(authority, password, "require")) {
            check(false, "let in: " + link);
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), error.getSQLState() + " instead of " + state + ": " + error);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        for (String binding : new String[] {"require", "prefer", "disable"}) {
            try (Connection link = connect("CLIENTS_CA", System.getenv("PGPASSWORD"), binding)) {
                use(link);
            }
        }
        fails("28P01", "CLIENTS_CA", "wrong");
        fails("08006", "CLIENTS_OTHER_CA", System.getenv("PGPASSWORD"));
        System.out.println("ok " + checks + " checks");
    }
}

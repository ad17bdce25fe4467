//! A PostgreSQL cluster of our own: started, found again, left behind, refused. Runs as root and as anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests panic like tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use firepool::cli::cluster::{
    Bootstrap, Cluster, ClusterError, Options, Places, Port, Programs, SUPERUSER, reset,
};
use rustix::process::{Pid, Signal, geteuid, getpgid, kill_process};
use zeroize::Zeroizing;

/// A folder that PostgreSQL's account may enter, deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("firepool-cluster-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(fs::canonicalize(path).unwrap())
    }

    /// Where a cluster goes; it does not exist yet.
    fn cluster(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = reset(&self.cluster());
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs SQL as superuser over `host`, and answers what psql prints or complains about.
fn query_over(cluster: &Cluster, host: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(&cluster.programs().psql);
    command
        .env("PGPASSWORD", cluster.superuser_password())
        .args(["-X", "-A", "-t", "-q", "-w", "-h", host, "-p"]);
    command.arg(cluster.port().to_string()).args(["-U", SUPERUSER, "-d", "postgres", "-c", sql]);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn query(cluster: &Cluster, sql: &str) -> String {
    query_over(cluster, "127.0.0.1", sql).unwrap()
}

/// Whether a process runs. A zombie that nobody has waited for yet has ended too.
fn runs(pid: u32) -> bool {
    let state = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim().to_owned(),
        Err(_) if Path::new("/proc/self/stat").exists() => String::new(),
        Err(_) => {
            let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }
    };
    !state.is_empty() && !state.starts_with('Z')
}

/// Looks again and again until there is an answer.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "nothing happened in 30 seconds");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_started_cluster_answers_over_tcp_and_over_its_socket_with_the_settings_asked_for() {
    let folder = Folder::new();
    let cluster = Cluster::start(Options::small(folder.cluster()).setting("work_mem", "8MB")).unwrap();
    let settings = "SELECT current_setting('work_mem'), current_setting('max_connections'), \
        current_setting('server_encoding'), current_setting('listen_addresses'), current_setting('fsync')";
    assert_eq!(query(&cluster, settings), "8MB|200|UTF8|127.0.0.1|off");
    let sockets = cluster.socket_dir();
    assert_eq!(
        query_over(&cluster, sockets.to_str().unwrap(), "SELECT inet_server_port() IS NULL").unwrap(),
        "t"
    );
    assert!(runs(cluster.pid().unwrap()));
    assert!(fs::read_to_string(cluster.log_path()).unwrap().contains("ready to accept connections"));
    assert!(cluster.notices().is_empty(), "{:?}", cluster.notices());
}

#[test]
fn a_ctrl_c_in_the_terminal_does_not_reach_the_server() {
    let folder = Folder::new();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let pid = Pid::from_raw(cluster.pid().unwrap().try_into().unwrap()).unwrap();
    assert_eq!(getpgid(Some(pid)).unwrap(), pid);
    assert_ne!(getpgid(None).unwrap(), pid);
}

#[test]
fn a_wrong_password_and_no_password_are_refused() {
    let folder = Folder::new();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    for password in ["wrong", ""] {
        let url = cluster.connection_string(SUPERUSER, password, "postgres");
        let status = Command::new(&cluster.programs().psql)
            .args(["-X", "-w", "-c", "SELECT 1", &url])
            .env_remove("PGPASSWORD")
            .stderr(Stdio::null())
            .status();
        assert!(!status.unwrap().success());
    }
}

#[test]
fn stopping_leaves_no_process_behind_and_dropping_is_stopping() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let processes = cluster.processes();
    assert!(processes.len() > 3 && processes.contains(&cluster.pid().unwrap()), "{processes:?}");
    cluster.stop().unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(!processes.iter().any(|pid| runs(*pid)));
    cluster.stop().unwrap();
    drop(cluster);

    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let processes = cluster.processes();
    drop(cluster);
    assert!(!processes.iter().any(|pid| runs(*pid)));
}

#[test]
fn a_client_that_hangs_on_does_not_keep_the_server_from_stopping() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let url = cluster.connection_string(SUPERUSER, cluster.superuser_password(), "postgres");
    let mut client = Command::new(&cluster.programs().psql)
        .args(["-X", "-A", "-t", "-c", "SELECT 'begun'", "-c", "SELECT pg_sleep(600)", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    cluster.stop().unwrap();
    assert!(!client.wait().unwrap().success());
    assert!(cluster.processes().is_empty());
}

#[test]
fn starting_again_keeps_the_data_and_the_password() {
    let folder = Folder::new();
    let first = Cluster::start(Options::small(folder.cluster())).unwrap();
    query(&first, "CREATE TABLE kept AS SELECT 42 AS answer");
    let (password, identifier) = (first.superuser_password().to_owned(), identifier(&first));
    drop(first);
    let second = Cluster::start(Options::small(folder.cluster())).unwrap();
    assert_eq!(query(&second, "SELECT answer FROM kept"), "42");
    assert_eq!(second.superuser_password(), password);
    assert_eq!(self::identifier(&second), identifier);
}

/// What `initdb` made up for this data.
fn identifier(cluster: &Cluster) -> String {
    query(cluster, "SELECT system_identifier FROM pg_control_system()")
}

#[test]
fn another_superuser_password_replaces_the_old_one() {
    let folder = Folder::new();
    let mut options = Options::small(folder.cluster());
    options.superuser_password = Some(Zeroizing::new("fi:r\\st".to_owned()));
    drop(Cluster::start(options.clone()).unwrap());
    options.superuser_password = Some(Zeroizing::new("it's the second".to_owned()));
    let cluster = Cluster::start(options).unwrap();
    assert_eq!(cluster.superuser_password(), "it's the second");
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    let log = fs::read_to_string(cluster.log_path()).unwrap();
    assert!(!log.contains("second"), "{log}");
}

#[test]
fn a_lost_password_is_asked_for_and_only_the_right_one_will_do() {
    let folder = Folder::new();
    let mut options = Options::small(folder.cluster());
    let cluster = Cluster::start(options.clone()).unwrap();
    let password = cluster.superuser_password().to_owned();
    drop(cluster);
    fs::remove_file(folder.cluster().join("private/superuser-password")).unwrap();
    let error = Cluster::start(options.clone()).unwrap_err();
    assert!(matches!(error, ClusterError::PasswordLost { .. }), "{error}");
    options.superuser_password = Some(Zeroizing::new("a guess".to_owned()));
    let error = Cluster::start(options.clone()).unwrap_err();
    assert!(matches!(error, ClusterError::Program { .. }), "{error}");
    options.superuser_password = Some(Zeroizing::new(password));
    drop(Cluster::start(options).unwrap());
    assert_eq!(query(&Cluster::start(Options::small(folder.cluster())).unwrap(), "SELECT 1"), "1");
}

#[test]
fn a_restart_keeps_the_port_and_a_killed_server_recovers() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let (port, first) = (cluster.port(), cluster.pid());
    query(&cluster, "CREATE TABLE kept AS SELECT 42 AS answer; CHECKPOINT");
    cluster.restart().unwrap();
    assert_eq!(cluster.port(), port);
    assert_ne!(cluster.pid(), first);
    let processes = cluster.processes();
    cluster.kill_hard().unwrap();
    assert!(!processes.iter().any(|pid| runs(*pid)));
    assert!(query_over(&cluster, "127.0.0.1", "SELECT 1").is_err());
    cluster.restart().unwrap();
    assert_eq!(query(&cluster, "SELECT answer FROM kept"), "42");
}

#[test]
fn a_server_that_ends_by_itself_is_noticed() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    assert!(cluster.ended().unwrap().is_none());
    let pid = cluster.pid().unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::QUIT).unwrap();
    eventually(|| cluster.ended().unwrap());
    assert!(!cluster.processes().contains(&pid));
    cluster.restart().unwrap();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

const PARENT: &str = "FIREPOOL_TEST_CLUSTER_OF_PARENT";

/// Not a test by itself: the process that the next test kills. It starts a cluster and waits for its end.
#[test]
fn a_parent_that_is_killed() {
    let Some(data_dir) = std::env::var_os(PARENT) else { return };
    let cluster = Cluster::start(Options::small(data_dir)).unwrap();
    query(&cluster, "CREATE TABLE kept AS SELECT 42 AS answer");
    println!("\npostmaster {}", cluster.pid().unwrap());
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_server_left_behind_by_a_killed_parent_is_stopped_and_its_data_is_used() {
    let folder = Folder::new();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_parent_that_is_killed", "--nocapture"])
        .env(PARENT, folder.cluster())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let orphan: u32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("postmaster ").map(|pid| pid.parse().unwrap()))
        .expect("the parent starts a cluster");

    let in_use = Cluster::start(Options::small(folder.cluster())).unwrap_err();
    assert!(
        matches!(&in_use, ClusterError::InUse { pid, .. } if *pid == parent.id().to_string()),
        "{in_use}"
    );
    let in_use = reset(&folder.cluster()).unwrap_err();
    assert!(matches!(in_use, ClusterError::InUse { .. }), "{in_use}");

    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(runs(orphan));
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    assert!(!runs(orphan));
    assert_eq!(query(&cluster, "SELECT answer FROM kept"), "42");
    assert!(cluster.notices()[0].contains("earlier run"), "{:?}", cluster.notices());
}

#[test]
fn a_pid_file_that_names_an_unrelated_process_does_no_harm() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    cluster.kill_hard().unwrap();
    let pid_file = cluster.pgdata().join("postmaster.pid");
    drop(cluster);
    // This very process: PostgreSQL would take it for a running server.
    let text = fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_left_alone() {
    let folder = Folder::new();
    let foreign = folder.cluster();
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("PG_VERSION"), "15\n").unwrap();
    let error = Cluster::start(Options::small(&foreign)).unwrap_err();
    assert!(matches!(error, ClusterError::Foreign { .. }), "{error}");
    let error = reset(&foreign).unwrap_err();
    assert!(matches!(error, ClusterError::Foreign { .. }), "{error}");
    let names: Vec<_> = fs::read_dir(&foreign).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["PG_VERSION"]);
}

#[test]
fn a_reset_deletes_what_is_ours_and_nothing_when_there_is_nothing() {
    let folder = Folder::new();
    drop(Cluster::start(Options::small(folder.cluster())).unwrap());
    assert_eq!(reset(&folder.cluster()).unwrap(), [folder.cluster()]);
    assert!(!folder.cluster().exists());
    assert_eq!(reset(&folder.cluster()).unwrap(), [] as [PathBuf; 0]);
}

#[test]
fn data_of_another_major_version_is_refused_with_both_versions_and_the_way_out() {
    let folder = Folder::new();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let (data, major) = (cluster.pgdata(), cluster.programs().major_version().unwrap());
    drop(cluster);
    fs::write(data.join("PG_VERSION"), "8.4\n").unwrap();
    let message = Cluster::start(Options::small(folder.cluster())).unwrap_err().to_string();
    for part in ["PostgreSQL 8.4", &format!("PostgreSQL {major}"), "--reset", "FIREPOOL_PG_BINDIR"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn missing_programs_are_named_with_what_to_install() {
    let nowhere = PathBuf::from("/nonexistent");
    let places = Places { bindir: None, path: vec![nowhere.join("bin")], root: nowhere };
    let message = Programs::find_in(&places).unwrap_err().to_string();
    assert!(message.contains("initdb") && message.contains("apt-get install"), "{message}");
}

#[test]
fn a_preferred_port_that_is_taken_is_replaced_and_a_fixed_one_is_not() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut options = Options::small(folder.cluster());
    options.port = Port::Fixed(port);
    let error = Cluster::start(options.clone()).unwrap_err();
    assert!(matches!(error, ClusterError::PortInUse { port: named } if named == port), "{error}");
    options.port = Port::Preferred(port);
    let cluster = Cluster::start(options.clone()).unwrap();
    assert_ne!(cluster.port(), port);
    assert!(cluster.notices()[0].contains(&port.to_string()), "{:?}", cluster.notices());
    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_server_that_does_not_start_shows_the_end_of_its_log() {
    let folder = Folder::new();
    let options = Options::small(folder.cluster()).setting("shared_buffers", "nonsense");
    let error = Cluster::start(options).unwrap_err();
    assert!(matches!(error, ClusterError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("\"nonsense\""), "{error}");
    assert!(Cluster::start(Options::small(folder.cluster())).is_ok());
}

#[test]
fn a_long_path_gets_a_short_socket() {
    let folder = Folder::new();
    let long = folder.cluster().join("x".repeat(60)).join("y".repeat(60));
    let cluster = Cluster::start(Options::small(&long)).unwrap();
    let sockets = cluster.socket_dir();
    assert_eq!(query_over(&cluster, sockets.to_str().unwrap(), "SELECT 1").unwrap(), "1");
    drop(cluster);
    assert!(!sockets.exists());
    reset(&long).unwrap();
}

#[test]
fn a_folder_the_account_cannot_enter_is_replaced_by_one_it_can() {
    let folder = Folder::new();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    let used = cluster.pgdata().parent().unwrap().to_owned();
    if geteuid().is_root() {
        assert!(used.starts_with("/var/tmp"), "{}", used.display());
        assert!(cluster.notices()[0].contains(folder.cluster().to_str().unwrap()), "{:?}", cluster.notices());
    } else {
        assert_eq!(used, folder.cluster());
    }
    drop(cluster);
    assert_eq!(reset(&folder.cluster()).unwrap(), std::slice::from_ref(&used));
    assert!(!used.exists());
}

#[test]
fn other_accounts_cannot_read_data_passwords_or_log() {
    let folder = Folder::new();
    let cluster = Cluster::start(Options::small(folder.cluster())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o077;
    assert_eq!(mode(&cluster.pgdata()), 0);
    assert_eq!(mode(&cluster.log_path()), 0);
    assert_eq!(mode(&folder.cluster().join("private")), 0);
    assert_eq!(mode(&folder.cluster().join("private/superuser-password")), 0);
}

#[test]
fn a_bootstrap_runs_on_every_start_with_its_passwords() {
    let folder = Folder::new();
    let password = r#"it's "a" \ pass:word %41"#;
    let files = [
        ("entry.sql", "\\ir parts/10-role.sql\n"),
        (
            "parts/10-role.sql",
            "SELECT count(*) = 0 AS missing FROM pg_roles WHERE rolname = 'reader' \\gset\n\
             \\if :missing\nCREATE ROLE reader LOGIN;\n\\endif\n\
             ALTER ROLE reader PASSWORD :'reader_password';\n",
        ),
    ];
    for password in ["first", password] {
        let mut options = Options::small(folder.cluster());
        options.bootstrap = Some(Bootstrap::new("entry.sql", files).variable("reader_password", password));
        let cluster = Cluster::start(options).unwrap();
        let url = cluster.connection_string("reader", password, "postgres");
        let output = Command::new(&cluster.programs().psql)
            .args(["-X", "-A", "-t", "-c", "SELECT current_user", &url])
            .output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "reader\n");
        assert!(!folder.cluster().join("private/psql").exists());
    }
}

#[test]
fn a_bootstrap_that_fails_says_why_without_the_password_and_stops_the_server() {
    let folder = Folder::new();
    let mut options = Options::small(folder.cluster());
    let sql = "SELECT 1;\nALTER ROLE nobody_here PASSWORD :'x_password' NONSENSE;\n";
    options.bootstrap =
        Some(Bootstrap::new("entry.sql", [("entry.sql", sql)]).variable("x_password", "hidden!"));
    let message = Cluster::start(options).unwrap_err().to_string();
    assert!(message.contains("entry.sql:2") && message.contains("NONSENSE"), "{message}");
    assert!(!message.contains("hidden!"), "{message}");
    assert!(!folder.cluster().join("pgdata/postmaster.pid").exists());
}

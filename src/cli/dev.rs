//! `firepool dev`: a PostgreSQL with FireFoundry's databases, and the proxy in front of it, from one command.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::{self, Bootstrap, Cluster, Options, Port};
use super::{certificate, complain, limits, log, print, serve};
use crate::app::App;
use crate::config::{self, Config, Pattern, Target};

/// The password of every user. Nothing here listens beyond the loopback interface.
const PASSWORD: &str = "password";

/// Where PostgreSQL listens, if the port is free.
const SERVER_PORT: u16 = 5433;

/// How long running transactions may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(5);

/// FireFoundry's defaults, which this command serves with other addresses.
const CONFIG: &str = include_str!("../../config/firepool.toml");

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder of PostgreSQL's data
    #[arg(long, value_name = "FOLDER", default_value = ".firepool")]
    data_dir: PathBuf,
    /// Delete the data first
    #[arg(long)]
    reset: bool,
    /// Where clients connect to
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6432")]
    listen: SocketAddr,
    /// Where the page for people, /metrics, /live and /ready are
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9127")]
    admin: SocketAddr,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("firepool dev: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if arguments.reset {
        for folder in cluster::reset(&arguments.data_dir)? {
            print(&format!("deleted {}\n", folder.display()));
        }
    }
    let mut bootstrap = Bootstrap::firefoundry();
    for role in ["fireinsert", "firebroker", "fireread", "firebrand"] {
        bootstrap = bootstrap.variable(&format!("{role}_password"), PASSWORD);
    }
    let mut options = Options::new(&arguments.data_dir);
    options.port = Port::Preferred(SERVER_PORT);
    options.superuser_password = Some(PASSWORD.to_owned().into());
    options.bootstrap = Some(bootstrap);
    let mut server = Cluster::start(options)?;
    for notice in server.notices() {
        print(&format!("{notice}\n"));
    }
    let mut config = configuration(arguments, &server.socket_dir(), server.port())?;
    if let Some(folder) = server.log_path().parent() {
        config.tls = certificate::for_development(folder)?;
    }
    let logging = log::start(&config.log);
    limits::raise_file_limit(&config);
    let app = App::start_with(Arc::new(config.clone()), logging.logs.clone())?;
    print(&welcome(&app, &config, &server));
    // SIGHUP says that the terminal has gone.
    serve::until_stopped(app, PATIENCE, None)?;
    server.stop()?;
    Ok(())
}

/// FireFoundry's defaults, with the addresses of this machine.
fn configuration(arguments: &Arguments, socket_dir: &Path, port: u16) -> Result<Config, config::Problems> {
    let password = |_: &str| Some(PASSWORD.to_owned());
    let mut config = config::parse(CONFIG, Path::new("config/firepool.toml"), &password)?;
    config.proxy.listen = vec![arguments.listen];
    config.admin = Some(arguments.admin);
    config.log.json = false;
    let host = socket_dir.display().to_string();
    for target in &mut config.targets {
        *target = Arc::new(Target { host: host.clone(), port, ..Target::clone(target) });
        for route in config.routes.iter_mut().filter(|route| route.target.name == target.name) {
            Arc::make_mut(route).target = Arc::clone(target);
        }
    }
    Ok(config)
}

fn welcome(app: &App, config: &Config, server: &Cluster) -> String {
    let mut text = String::from("\nfirepool is ready. Connection strings, through the pool:\n\n");
    // Writing to a String cannot fail.
    for route in &config.routes {
        if let (Pattern::Exact(database), Pattern::Exact(user), [address, ..]) =
            (&route.database, &route.user, app.addresses())
        {
            let mode = route.mode.as_str();
            let url = format!("postgresql://{user}:{PASSWORD}@{address}/{database}");
            let _ = writeln!(text, "  {url:<72} {mode} mode, {} server connections", route.pool_size);
        }
    }
    let _ = writeln!(
        text,
        "\nand around it:\n\n  {:<72} PostgreSQL itself",
        server.connection_string("postgres", PASSWORD, "firefoundry")
    );
    if let Some(admin) = app.admin() {
        let _ = writeln!(text, "  {:<72} also /metrics, /live and /ready", format!("http://{admin}/"));
    }
    let _ = writeln!(text, "  {:<72} PostgreSQL's log", server.log_path().display());
    text.push_str("\nTLS works as well (sslmode=require), with a certificate that nobody vouches for.\n");
    text.push_str("\nCtrl-C stops both and keeps the data.\n");
    text
}

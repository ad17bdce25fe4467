//! `firepool serve`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::log::Logging;
use super::signals::{HANGUP, Signals};
use super::{EX_CONFIG, complain, limits, log};
use crate::app::App;
use crate::config::{self, Config};

type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

pub(super) fn run(path: &Path, environment: Environment<'_>) -> ExitCode {
    let config::Examined { config, problems } = config::examine(path, environment);
    for problem in &problems {
        complain(&problem.to_string());
    }
    let Some(config) = config else { return ExitCode::from(EX_CONFIG) };
    let logging = log::start(&config.log);
    limits::raise_file_limit(&config);
    let limit = config.proxy.shutdown_timeout;
    let mut read = Read { first: config.clone(), last: config.clone() };
    let app = match App::start_with(Arc::new(config), logging.logs.clone()) {
        Ok(app) => app,
        Err(error) => {
            complain(&format!("firepool: {error}"));
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?app.addresses(), admin = ?app.admin(), "ready");
    let mut reload = |app: &App| reload(app, &mut read, (path, environment, &logging));
    match until_stopped(app, limit, Some(&mut reload)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("firepool: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The configuration as it was read. What needs a restart still is as it was at first.
struct Read {
    first: Config,
    last: Config,
}

/// Reads certificates and the configuration again. A configuration with errors is left alone. How long a drain may take
/// from now on.
fn reload(
    app: &App,
    read: &mut Read,
    (path, environment, logging): (&Path, Environment<'_>, &Logging),
) -> Duration {
    let certificates = app.reload_certificates();
    let config::Examined { config, problems } = config::examine(path, environment);
    for problem in &problems {
        tracing::warn!(%problem, "the configuration");
    }
    let Some(config) = config else {
        tracing::error!("the configuration has errors: nothing of it is used");
        app.reload_failed();
        return read.last.proxy.shutdown_timeout;
    };
    for change in config::reload::diff(&read.last, &config).lines().iter().filter(|it| it.is_applied) {
        tracing::info!(change = change.text, "reload");
    }
    for change in config::reload::diff(&read.first, &config).lines().iter().filter(|it| !it.is_applied) {
        tracing::warn!(change = change.text, "reload: needs a restart");
    }
    app.reload(&config, certificates);
    tracing::info!("how clients log in, and what is logged, is reloaded");
    logging.reload(&config.log);
    read.last = config;
    read.last.proxy.shutdown_timeout
}

/// Serves until a signal, then drains; a second signal ends at once. SIGHUP is for `reload`, and a signal like any other
/// without; who drains reads nothing again. A reload says how long a drain may take then.
pub(super) fn until_stopped(
    app: App,
    mut limit: Duration,
    mut reload: Option<&mut dyn FnMut(&App) -> Duration>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let signal = loop {
            match (signals.next().await, &mut reload) {
                (HANGUP, Some(reload)) => limit = reload(&app),
                (signal, _) => break signal,
            }
        };
        tracing::info!(signal, ?limit, "draining");
        let drained = tokio::task::spawn_blocking(move || app.drain(limit));
        tokio::select! {
            _ = drained => tracing::info!("stopped"),
            signal = signals.stop(reload.is_some()) => tracing::warn!(signal, "stopped at once"),
        }
        Ok(())
    });
    // Without waiting for a drain that was cut short.
    runtime.shutdown_background();
    stopped
}

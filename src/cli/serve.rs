//! `firepool serve`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::signals::Signals;
use super::{EX_CONFIG, complain, limits, log};
use crate::app::App;
use crate::config;

pub(super) fn run(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> ExitCode {
    let config::Examined { config, problems } = config::examine(path, environment);
    for problem in &problems {
        complain(&problem.to_string());
    }
    let Some(config) = config else { return ExitCode::from(EX_CONFIG) };
    log::start(&config.log);
    limits::raise_file_limit(&config);
    let limit = config.proxy.shutdown_timeout;
    let app = match App::start(Arc::new(config)) {
        Ok(app) => app,
        Err(error) => {
            complain(&format!("firepool: {error}"));
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?app.addresses(), admin = ?app.admin(), "ready");
    match until_stopped(app, limit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("firepool: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal to stop, then drains; a second one ends at once.
pub(super) fn until_stopped(app: App, limit: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let signal = signals.stop(|| app.reload_certificates()).await;
        tracing::info!(signal, ?limit, "draining");
        let drained = tokio::task::spawn_blocking(move || app.drain(limit));
        tokio::select! {
            _ = drained => tracing::info!("stopped"),
            signal = signals.stop(|| {}) => tracing::warn!(signal, "stopped at once"),
        }
        Ok(())
    });
    // Without waiting for a drain that was cut short.
    runtime.shutdown_background();
    stopped
}

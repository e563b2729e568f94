//! `greenroom serve`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use actix::System;

use super::{
    output,
    process::{End, Process, StartError},
    reload, signals,
};
use crate::{
    config::{self, Config, ConfigFile, LogFormat},
    manager::TenantsUnusable,
    telemetry,
};

/// The configuration is wrong, as `sysexits.h` numbers it.
const EX_CONFIG: u8 = 78;
/// The store cannot be used: its file is locked, damaged, of a newer version, or refused by the system.
const EX_IOERR: u8 = 74;
/// The process could not start or had to give up.
const EX_SOFTWARE: u8 = 70;

/// The arguments.
///
/// Exit codes: 0 after an orderly end; 1 when connections were still open at the deadline; 70 when it could
/// not start or had to give up; 74 when the store cannot be used; 78 when the configuration is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file (TOML); see config/greenroom.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "every subcommand's `run` takes its arguments so")]
pub(super) fn run(args: Args) -> ExitCode {
    let (config, file) = match ConfigFile::load(&args.config, config::environment()) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            output::complain(&mistakes.to_string());
            return ExitCode::from(EX_CONFIG);
        }
    };
    let format = match config.telemetry.log_format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    if let Err(error) = telemetry::init_logs(format, &config.telemetry.log_level) {
        output::complain(&format!("greenroom: {error}"));
        return ExitCode::from(EX_CONFIG);
    }
    System::new().block_on(serve(config, file))
}

async fn serve(config: Config, file: ConfigFile) -> ExitCode {
    let told_to_end = signals::terminate();
    let mut process = match Process::start_from(&config, Some(file)).await {
        Ok(process) => process,
        Err(error) => {
            output::complain(&format!("greenroom: {error}"));
            return ExitCode::from(match error {
                StartError::Tenants(TenantsUnusable::InBoth(_)) | StartError::Traces(_) => EX_CONFIG,
                StartError::Tenants(TenantsUnusable::Store(_))
                | StartError::Store(_)
                | StartError::Sessions(_) => EX_IOERR,
                StartError::Io(_) => EX_SOFTWARE,
            });
        }
    };
    signals::reload_on_hangup(Arc::clone(process.reload()));
    reload::on_hangup(process.reloader().clone());
    tracing::info!(
        data = %process.data_address(), admin = %process.admin_address(), tenants = config.tenants.len(),
        "greenroom serves"
    );
    for note in config.notes() {
        tracing::warn!(note, "configuration");
    }
    let end = process.until_end(told_to_end).await;
    tracing::info!("greenroom drains");
    let in_time = process.stop().await;
    match end {
        End::Asked if in_time => ExitCode::SUCCESS,
        End::Asked => {
            tracing::error!("connections were still open at the deadline (server.shutdown_s)");
            ExitCode::FAILURE
        }
        End::ManagerLost => ExitCode::from(EX_SOFTWARE),
    }
}

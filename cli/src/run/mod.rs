//! `palimpsest run`: a job on this machine, from its file to its report.
//!
//! ```text
//! job file ► lock the folder ► serve Control on loopback ► start an agent ► drive the coordinator ► report and table
//! ```

mod agent;
mod display;
mod driver;
mod plan;
mod resume;
mod table;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use palimpsest_api::result_digest;
use palimpsest_coordinator::{Cause, Config, State};
use palimpsest_proto::control::RunPlan;
use palimpsest_store::{newest_attempt, write_atomically};

use self::display::Display;
use self::driver::End;
use crate::errors::UserError;
use crate::job::{Job, JobOptions};
use crate::lock::Lock;
use crate::report;

/// The exit code of a run that was stopped, as of what Ctrl-C ends.
pub(crate) const STOPPED: u8 = 130;

/// What to run, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    job: JobOptions,
    /// How many workers train: one, in this version.
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Prepare the data, say what the job would do, and train nothing.
    #[arg(long)]
    plan: bool,
    /// Let the worker serve /metrics on this port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: Option<u16>,
    /// The address that the port is of.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), requires = "metrics_port")]
    metrics_address: IpAddr,
    /// Record N steps, after the first one, as a Chrome trace in the run folder's traces/.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    profile: u32,
}

/// Where tensors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// The processor.
    Cpu,
    /// The first GPU.
    Cuda,
}

/// Runs a job to its end, or until it is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(workers) = arguments.workers.filter(|workers| *workers != 1) {
        let sentence = format!("--workers {workers}: this version trains with one worker; write 1 or leave it out");
        return Err(UserError::new(sentence).into());
    }
    let job = arguments.job.read()?;
    let lock = Lock::take(job.folder.root())?;
    // Checkpoints that lie elsewhere may be meant by jobs of other folders, too.
    let checkpoints = job.folder.checkpoints();
    let is_elsewhere = !checkpoints.starts_with(job.folder.root());
    let lock_of_checkpoints = is_elsewhere.then(|| Lock::take(&checkpoints)).transpose()?;
    if arguments.plan {
        return plan::run(&job, arguments.job.threads.count(), arguments.device == Device::Cuda);
    }
    // As many as before, for the same bits as before.
    let before = resume::threads_of_newest_checkpoint(&job.folder.checkpoints());
    let threads =
        before.filter(|_| arguments.job.threads.asked.is_none()).unwrap_or_else(|| arguments.job.threads.count());
    let plan = run_plan(&job, threads, arguments)?;
    let mut display = Display::new();
    let claimed = newest_attempt(&job.folder.checkpoints())?;
    let config = Config::new(&job.job, claimed.unwrap_or(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let metrics = arguments.metrics_port.map(|port| SocketAddr::new(arguments.metrics_address, port));
    let digest = result_digest(&job.job);
    let driven = driver::drive(job.folder.root(), config, &digest, plan, metrics, &mut display);
    let end = runtime.block_on(driven);
    display.finish();
    runtime.shutdown_background();
    let code = conclude(&job, end?);
    drop((lock, lock_of_checkpoints));
    code
}

fn run_plan(job: &Job, threads: u32, arguments: &Arguments) -> Result<RunPlan> {
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| UserError::new(format!("the path {} is not UTF-8; choose another folder", path.display())))
    };
    let mut mounts = std::collections::HashMap::new();
    for (name, folder) in &job.mounts.mounts {
        mounts.insert(name.clone(), text(folder)?);
    }
    Ok(RunPlan {
        job_json: serde_json::to_string(&job.job).context("cannot write the job as JSON")?,
        job_folder: text(&job.mounts.base)?,
        mounts,
        threads,
        device: match arguments.device {
            Device::Cpu => "cpu".to_owned(),
            Device::Cuda => "cuda".to_owned(),
        },
        profile_steps: arguments.profile,
    })
}

/// Says how the run ended, and leaves the report.
fn conclude(job: &Job, end: End) -> Result<ExitCode> {
    let name = &job.job.metadata.name;
    match end.state {
        State::Succeeded { already } => {
            if already {
                println!("{name} is finished already; nothing was changed");
            } else {
                write_report(job)?;
            }
            print!("{}", table::closing(&job.folder)?);
            Ok(ExitCode::SUCCESS)
        }
        State::Failed { cause: Cause::User, message } => Err(UserError::new(message).into()),
        State::Failed { cause: Cause::Internal, message } => Err(anyhow!(message)),
        _ => {
            // A page of what there is so far; where there is no step yet there is nothing to show.
            if job.folder.metrics().exists()
                && let Err(error) = write_report(job)
            {
                tracing::warn!(%error, "there is no report of the run so far");
            }
            eprintln!("{}", stopped(&end));
            eprintln!("go on with: {}", resume::own_command_line());
            Ok(ExitCode::from(STOPPED))
        }
    }
}

fn stopped(end: &End) -> String {
    match end.checkpoint {
        _ if end.step == 0 => "stopped before the first step".to_owned(),
        Some(checkpoint) if checkpoint == end.step => format!("stopped after step {checkpoint}, with a checkpoint"),
        Some(checkpoint) => format!(
            "stopped after step {}; the newest checkpoint is of step {checkpoint}, so {} steps are lost",
            end.step,
            end.step - checkpoint
        ),
        None => format!("stopped after step {}, without a new checkpoint", end.step),
    }
}

fn write_report(job: &Job) -> Result<()> {
    let page = report::render(job.folder.root())?;
    Ok(write_atomically(&job.folder.report(), page.as_bytes())?)
}

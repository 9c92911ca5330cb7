//! `palimpsest data`: prepare a job's data, and look into it.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Result;
use palimpsest_corpus::{InspectedSequence, Inspector, Plan};
use palimpsest_prepare::PreparedJob;

use crate::columns::table;
use crate::errors::UserError;
use crate::job::JobOptions;
use crate::lock::Lock;
use crate::prepare::prepare;
use crate::run::STOPPED;
use crate::words;

/// What to do with a job's data.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the tokenizer, pack the sequences and print the certificate.
    Prepare(JobOptions),
    /// Show what sequences hold, and where it came from.
    Inspect {
        #[command(flatten)]
        job: JobOptions,
        /// The stage's name; without one, the buckets of all stages are listed.
        #[arg(long, value_name = "NAME")]
        stage: Option<String>,
        /// The bucket, from 1.
        #[arg(long, value_name = "N", requires = "stage")]
        bucket: Option<usize>,
        /// The first sequence to show, from 1, of the bucket or else of the stage, in the order of training.
        #[arg(long, value_name = "N", default_value_t = 1, requires = "stage")]
        sequence: usize,
        /// How many sequences to show.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: usize,
        /// Write a JSON object for each sequence.
        #[arg(long)]
        json: bool,
    },
}

/// Does what the command says.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Prepare(options) => {
            let job = options.read()?;
            let _lock = Lock::take(job.folder.root())?;
            let Some(prepared) = prepare(&job, options.threads.count())? else { return Ok(ExitCode::from(STOPPED)) };
            print!("{}", certificate(&prepared.plan));
        }
        Command::Inspect { job: options, stage, bucket, sequence, count, json } => {
            let job = options.read()?;
            // What a run has prepared may be looked at while it trains.
            let _lock = if job.folder.plan().exists() { None } else { Some(Lock::take(job.folder.root())?) };
            let Some(prepared) = prepare(&job, options.threads.count())? else { return Ok(ExitCode::from(STOPPED)) };
            match stage {
                None => print!("{}", buckets(&prepared.plan)),
                Some(stage) => inspect(&prepared, stage, *bucket, *sequence, *count, *json)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What happened to every document and token.
pub(crate) fn certificate(plan: &Plan) -> String {
    let heading = ["dataset", "read", "held out", "used", "unused", "dropped", "tokens", "trained", "most often"];
    let cells: Vec<Vec<String>> = plan
        .certificate
        .datasets
        .iter()
        .map(|dataset| {
            let documents = [dataset.read, dataset.held_out, dataset.used, dataset.unused, dataset.dropped];
            let mut row = vec![dataset.dataset.clone()];
            row.extend(documents.map(|amount| words::count(amount.documents)));
            row.push(words::count(dataset.read.tokens));
            row.push(words::count(dataset.trained.tokens));
            row.push(dataset.repeated.keys().max().map_or("-".to_owned(), |times| format!("{times} x")));
            row
        })
        .collect();
    format!("documents, and their tokens\n{}\nbuckets\n{}", table(&heading, &cells, &["dataset"]), buckets(plan))
}

fn buckets(plan: &Plan) -> String {
    let heading = ["stage", "bucket", "sequences", "document tokens", "target tokens", "padding", "fill", "holds"];
    let mut cells = Vec::new();
    for stage in &plan.stages {
        for (index, bucket) in stage.buckets.iter().enumerate() {
            let holds: Vec<String> = bucket
                .datasets
                .iter()
                .map(|bin| {
                    let share = 100.0 * bin.document_tokens as f64 / bucket.document_tokens.max(1) as f64;
                    format!("{} {share:.0} %", bin.dataset)
                })
                .collect();
            cells.push(vec![
                stage.name.clone(),
                format!("{}/{}", index + 1, stage.buckets.len()),
                words::count(bucket.sequences),
                words::count(bucket.document_tokens),
                words::count(bucket.target_tokens),
                words::count(bucket.padding),
                format!("{:.2} %", 100.0 * bucket.fill),
                holds.join(", "),
            ]);
        }
    }
    table(&heading, &cells, &["stage", "holds"])
}

fn inspect(
    prepared: &PreparedJob,
    stage: &str,
    bucket: Option<usize>,
    sequence: usize,
    count: usize,
    json: bool,
) -> Result<()> {
    let plan = &prepared.plan;
    let Some(index) = plan.stages.iter().position(|other| other.name == stage) else {
        let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
        let sentence = format!("--stage {stage}: there is no such stage; choose one of {}", names.join(", "));
        return Err(UserError::new(sentence).into());
    };
    let mut inspector = Inspector::new(plan, &prepared.tokenizer);
    let sequences = match bucket {
        None => 0..plan.stages[index].sequences() as usize,
        Some(bucket) => {
            let buckets = plan.stages[index].buckets.len();
            if bucket == 0 || bucket > buckets {
                let sentence =
                    format!("--bucket {bucket}: stage {stage} has buckets 1 to {buckets}; choose one of them");
                return Err(UserError::new(sentence).into());
            }
            inspector.bucket(index, bucket - 1)?
        }
    };
    if sequence == 0 || sequence > sequences.len() {
        let sentence =
            format!("--sequence {sequence}: there are sequences 1 to {}; choose one of them", sequences.len());
        return Err(UserError::new(sentence).into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for number in sequences.skip(sequence - 1).take(count) {
        let shown = inspector.sequence(index, number)?;
        if json {
            serde_json::to_writer(&mut out, &shown)?;
            writeln!(out)?;
        } else {
            show(&shown, plan.sequence_length, &mut out)?;
        }
    }
    Ok(out.flush()?)
}

/// Writes a sequence as a person looks at it.
fn show(sequence: &InspectedSequence, length: u32, out: &mut impl Write) -> io::Result<()> {
    let InspectedSequence { stage, bucket, sequence_in_bucket, sequence: number, step, positions, pieces, .. } =
        sequence;
    writeln!(
        out,
        "sequence {sequence_in_bucket} of bucket {bucket}, {number} of stage {stage}, read in its step {step}: \
         {positions} of {length} positions filled"
    )?;
    for piece in pieces {
        let category = piece.category.as_ref().map_or_else(String::new, |category| format!(", category {category}"));
        writeln!(out, "\n  {} document {}: {}{category}", piece.dataset, piece.document, piece.place())?;
        writeln!(
            out,
            "  ids {} to {} of {}, {} targets",
            piece.offset + 1,
            piece.offset + piece.positions + 1,
            piece.document_ids,
            piece.targets
        )?;
        for line in piece.text.lines() {
            writeln!(out, "  | {line}")?;
        }
    }
    writeln!(out)
}

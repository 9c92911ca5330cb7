//! `palimpsest data`: prepare a job's data, and look into it.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Result;
use palimpsest_corpus::{IGNORED, Plan, Sequence};
use palimpsest_prepare::PreparedJob;
use palimpsest_vocab::Tokenizer;
use serde_json::json;

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
        /// The first sequence to show, from 1, in the order of training.
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
            let Some(prepared) = prepare(&job, options.threads())? else { return Ok(ExitCode::from(STOPPED)) };
            print!("{}", certificate(&prepared.plan));
        }
        Command::Inspect { job: options, stage, bucket, sequence, count, json } => {
            let job = options.read()?;
            // What a run has prepared may be looked at while it trains.
            let _lock = if job.folder.plan().exists() { None } else { Some(Lock::take(job.folder.root())?) };
            let Some(prepared) = prepare(&job, options.threads())? else { return Ok(ExitCode::from(STOPPED)) };
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
    let reader = plan.reader(index)?;
    let (first, sequences) = match bucket {
        None => (0, reader.sequences()),
        Some(bucket) => {
            let buckets = &plan.stages[index].buckets;
            if bucket == 0 || bucket > buckets.len() {
                let sentence = format!("--bucket {bucket}: stage {stage} has buckets 1 to {}", buckets.len());
                return Err(UserError::new(sentence).into());
            }
            let before: u64 = buckets[..bucket - 1].iter().map(|bucket| bucket.sequences).sum();
            (before as usize, buckets[bucket - 1].sequences as usize)
        }
    };
    if sequence == 0 || sequence > sequences {
        let sentence = format!("--sequence {sequence}: there are sequences 1 to {sequences}");
        return Err(UserError::new(sentence).into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for offset in sequence - 1..sequences.min(sequence - 1 + count) {
        let shown = Shown { number: first + offset + 1, sequence: reader.sequence(first + offset)?, plan, stage };
        if json {
            serde_json::to_writer(&mut out, &shown.to_json(&prepared.tokenizer))?;
            writeln!(out)?;
        } else {
            shown.write(&prepared.tokenizer, &mut out)?;
        }
    }
    Ok(out.flush()?)
}

/// A sequence as a person looks at it.
struct Shown<'a> {
    number: usize,
    sequence: Sequence<'a>,
    plan: &'a Plan,
    stage: &'a str,
}

/// A piece of a document.
struct Piece<'a> {
    dataset: &'a str,
    document: u64,
    offset: u32,
    ids: &'a [u32],
    labels: &'a [i32],
}

impl Shown<'_> {
    fn pieces(&self) -> Vec<Piece<'_>> {
        let mut begin = 0;
        let mut pieces = Vec::new();
        for (origin, length) in self.sequence.origins().zip(self.sequence.segments) {
            let end = begin + *length as usize;
            let dataset = self.plan.datasets.get(origin.dataset as usize).map_or("?", |dataset| &dataset.name);
            pieces.push(Piece {
                dataset,
                document: origin.document,
                offset: origin.offset,
                ids: &self.sequence.input_ids[begin..end],
                labels: &self.sequence.labels[begin..end],
            });
            begin = end;
        }
        pieces
    }

    fn write(&self, tokenizer: &Tokenizer, out: &mut impl Write) -> io::Result<()> {
        let filled = self.sequence.input_ids.len();
        writeln!(
            out,
            "sequence {} of stage {}, bucket {}: {filled} of {} positions filled",
            self.number,
            self.stage,
            self.sequence.bucket + 1,
            self.plan.sequence_length
        )?;
        for piece in self.pieces() {
            writeln!(
                out,
                "\n  {} document {}, ids {} to {}, {} targets",
                piece.dataset,
                piece.document,
                piece.offset,
                piece.offset as usize + piece.ids.len(),
                piece.targets()
            )?;
            for line in piece.text(tokenizer).lines() {
                writeln!(out, "  | {line}")?;
            }
        }
        writeln!(out)
    }

    fn to_json(&self, tokenizer: &Tokenizer) -> serde_json::Value {
        let pieces: Vec<serde_json::Value> = self
            .pieces()
            .iter()
            .map(|piece| {
                json!({
                    "dataset": piece.dataset,
                    "document": piece.document,
                    "offset": piece.offset,
                    "positions": piece.ids.len(),
                    "targets": piece.targets(),
                    "text": piece.text(tokenizer),
                    "inputIds": piece.ids,
                    "labels": piece.labels,
                })
            })
            .collect();
        json!({
            "stage": self.stage,
            "bucket": self.sequence.bucket,
            "sequence": self.number - 1,
            "positions": self.sequence.input_ids.len(),
            "padding": self.plan.sequence_length as usize - self.sequence.input_ids.len(),
            "pieces": pieces,
        })
    }
}

impl Piece<'_> {
    fn targets(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED).count()
    }

    /// The piece's own text: its inputs and the id that the last of them predicts.
    fn text(&self, tokenizer: &Tokenizer) -> String {
        let last = self.labels.last().and_then(|label| u32::try_from(*label).ok());
        let ids: Vec<u32> = self.ids.iter().copied().chain(last).collect();
        tokenizer.decode(&ids)
    }
}

//! `palimpsest tokenizer`: learn, extend, measure and use vocabularies.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use palimpsest_api::{Dataset, Fields};
use palimpsest_corpus::{all_texts, dataset_of, left_out_files, left_out_warning};
use palimpsest_prepare::{learn_extension, learn_vocabulary};
use palimpsest_store::{Mounts, publish_folder, staging_folder};
use palimpsest_vocab::{Row, Tokenizer, extend, measure, read_pieces};

use crate::columns::table;
use crate::errors::UserError;
use crate::threads::Threads;
use crate::words;

/// What to do with vocabularies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Learn a SentencePiece vocabulary from files.
    Learn {
        /// The number of ids, special and byte pieces included.
        #[arg(long, value_name = "N")]
        size: usize,
        /// The folder to make, for tokenizer.model and tokenizer.json.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        #[command(flatten)]
        corpus: Corpus,
        #[command(flatten)]
        threads: Threads,
        /// .jsonl, .parquet or text, plain, .gz or .zst; or folders of such.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Append pieces to a vocabulary; the ids that it has stay as they are.
    #[command(group = clap::ArgGroup::new("source").required(true).args(["pieces", "learn_from"]))]
    Extend {
        /// The vocabulary to extend.
        #[arg(long, value_name = "DIR|FILE")]
        tokenizer: PathBuf,
        /// A file with a line {"piece": ...} for each piece.
        #[arg(long, value_name = "FILE")]
        pieces: Option<PathBuf>,
        /// Files to learn pieces from.
        #[arg(long, value_name = "FILE", num_args = 1..)]
        learn_from: Vec<PathBuf>,
        /// The number of ids afterwards.
        #[arg(long, value_name = "N")]
        size: usize,
        /// The folder to make, for tokenizer.model and tokenizer.json.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        #[command(flatten)]
        corpus: Corpus,
        #[command(flatten)]
        threads: Threads,
    },
    /// How well vocabularies compress texts.
    Measure {
        /// A vocabulary and the name of its row.
        #[arg(long = "tokenizer", required = true, value_name = "NAME=DIR|FILE", value_parser = parse_named)]
        tokenizers: Vec<(String, PathBuf)>,
        /// Write JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        corpus: Corpus,
        /// .jsonl, .parquet or text, plain, .gz or .zst; or folders of such.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write a JSON list of ids for each line of a file; no special tokens.
    Encode(Lines),
    /// Write the text of each line's JSON list of ids.
    Decode(Lines),
}

/// How records are read.
#[derive(Debug, clap::Args)]
pub(crate) struct Corpus {
    /// The field of a record that holds its text.
    #[arg(long, value_name = "FIELD", default_value = "target")]
    text_field: String,
    /// The field of a record that holds the prompt before it, if there is one.
    #[arg(long, value_name = "FIELD", default_value = "source")]
    prompt_field: String,
}

/// A vocabulary and a file of lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Lines {
    /// The vocabulary.
    #[arg(long, value_name = "DIR|FILE")]
    tokenizer: PathBuf,
    /// The lines; - or nothing: standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path))),
        _ => Err("write NAME=DIR or NAME=FILE".to_owned()),
    }
}

/// Does what the command says.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    let mounts = Mounts::default();
    match command {
        Command::Learn { size, output, corpus, threads, files } => {
            refuse_existing(output)?;
            let datasets = datasets(corpus, files)?;
            let datasets: Vec<&Dataset> = datasets.iter().collect();
            let learned = learn_vocabulary(&datasets, &mounts, *size, threads.count() as usize, &mut || true)?;
            save(&learned, output)?;
        }
        Command::Extend { tokenizer, pieces, learn_from, size, output, corpus, threads } => {
            refuse_existing(output)?;
            let base = Tokenizer::open(tokenizer)?;
            let pieces = match pieces {
                Some(file) => read_pieces(file)?,
                None => {
                    let count = size.saturating_sub(base.vocabulary_size());
                    let datasets = datasets(corpus, learn_from)?;
                    let datasets: Vec<&Dataset> = datasets.iter().collect();
                    learn_extension(&base, &datasets, &mounts, count, threads.count() as usize, &mut || true)?
                }
            };
            let extension = extend(&base, &pieces, Some(*size))?;
            if !extension.unreachable.is_empty() {
                let count = words::count(extension.unreachable.len() as u64);
                eprintln!(
                    "warning: {count} of the new pieces come out of no text, because no two pieces merge to them"
                );
            }
            save(&extension.tokenizer, output)?;
        }
        Command::Measure { tokenizers, json, corpus, files } => measure_all(tokenizers, *json, corpus, files)?,
        Command::Encode(lines) => encode(lines)?,
        Command::Decode(lines) => decode(lines)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses an output that is there already before hours are spent on another. An empty folder counts as nothing.
fn refuse_existing(output: &Path) -> Result<()> {
    let is_empty = fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    if output.exists() && !is_empty {
        let sentence =
            format!("--output {}: it is there already; remove it or choose another folder", output.display());
        return Err(UserError::new(sentence).into());
    }
    Ok(())
}

/// Saves a tokenizer in a folder that appears whole.
fn save(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let staging = staging_folder(folder)?;
    let saved = tokenizer.save(&staging)?;
    publish_folder(&staging, folder, false)?;
    for warning in saved.warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}: {} ids", folder.display(), words::count(tokenizer.vocabulary_size() as u64));
    Ok(())
}

fn measure_all(named: &[(String, PathBuf)], json: bool, corpus: &Corpus, files: &[PathBuf]) -> Result<()> {
    let mut opened = Vec::new();
    for (name, path) in named {
        opened.push((name.as_str(), Tokenizer::open(path)?));
    }
    let borrowed: Vec<(&str, &Tokenizer)> = opened.iter().map(|(name, tokenizer)| (*name, tokenizer)).collect();
    let (datasets, mounts) = (datasets(corpus, files)?, Mounts::default());
    let rows = measure(&borrowed, all_texts(&datasets, &mounts))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", card_table(&rows));
    }
    Ok(())
}

/// The table of the model card.
fn card_table(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                words::count(row.vocabulary as u64),
                format!("{:.4}", row.tokens_per_character),
                format!("{:.1}", row.average_length),
                format!("{:.3}", row.bytes_per_token),
                words::count(row.unused as u64),
            ]
        })
        .collect();
    let heading = ["tokenizer", "vocabulary", "tokens/character", "average length", "bytes/token", "unused pieces"];
    table(&heading, &cells, &["tokenizer"])
}

fn encode(lines: &Lines) -> Result<()> {
    let tokenizer = Tokenizer::open(&lines.tokenizer)?;
    each_line(lines, |_, line, out| {
        let ids = tokenizer.encode(line)?;
        serde_json::to_writer(&mut *out, &ids)?;
        Ok(())
    })
}

fn decode(lines: &Lines) -> Result<()> {
    let tokenizer = Tokenizer::open(&lines.tokenizer)?;
    let size = tokenizer.vocabulary_size();
    each_line(lines, |place, line, out| {
        let ids: Vec<u32> = serde_json::from_str(line)
            .map_err(|error| UserError::new(format!("{place}: no JSON list of ids ({error}); write one as [1, 2]")))?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= size) {
            return Err(UserError::new(format!("{place}: there is no id {id} in a vocabulary of {size}")).into());
        }
        out.write_all(tokenizer.decode(&ids).as_bytes())?;
        Ok(())
    })
}

/// Gives each line of a file, without its end, to `write`, and ends what that writes by a line's end.
fn each_line(lines: &Lines, write: impl Fn(&str, &str, &mut dyn Write) -> Result<()>) -> Result<()> {
    let (name, reader): (String, Box<dyn BufRead>) = match lines.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).map_err(|source| palimpsest_store::Error::io("open", path, source))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
        _ => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, line) in (1..).zip(reader.split(b'\n')) {
        let place = format!("{name} line {number}");
        let line = line.with_context(|| format!("cannot read {name}"))?;
        let line =
            String::from_utf8(line).map_err(|_| UserError::new(format!("{place}: it is not UTF-8; convert it")))?;
        write(&place, &line, &mut out)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Files as datasets. What is left out of their folders is told.
fn datasets(corpus: &Corpus, files: &[PathBuf]) -> Result<Vec<Dataset>> {
    let mut datasets = Vec::new();
    for file in files {
        let fields =
            Fields { text: corpus.text_field.clone(), prompt: corpus.prompt_field.clone(), ..Fields::default() };
        let dataset = dataset_of(file, fields)?;
        let left_out = left_out_files(&dataset, &Mounts::default())?;
        if let Some(warning) = left_out_warning(&dataset.name, dataset.format, &left_out) {
            eprintln!("warning: {warning}");
        }
        datasets.push(dataset);
    }
    Ok(datasets)
}

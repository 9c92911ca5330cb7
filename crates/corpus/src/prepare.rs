//! Compiles a job's data: reads, holds out, tokenises, chooses, packs. What was done before is found again by digest.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use palimpsest_api::{DataSpec, Dataset, Stage};
use palimpsest_random::Stream;
use palimpsest_store::Mounts;

use crate::certificate::{Amount, Certificate, DatasetCertificate};
use crate::compile::{MixedDataset, compile_stage};
use crate::digest::{Digests, digest_of};
use crate::encoder::{Ends, TextEncoder};
use crate::error::{Error, RecordProblem, Result};
use crate::hold_out::HoldOutThreshold;
use crate::pack::Packer;
use crate::packed::BucketWriter;
use crate::plan::{DatasetPlan, HeldOutPlan, PLAN, Plan, StagePlan};
use crate::progress::{Phase, Progress, Reporter};
use crate::source::Source;
use crate::staging::Staging;
use crate::stream::DatasetStream;
use crate::tokenized::{self, Documents, Manifest, Origins, Tokenization};

/// Raised when plans change their meaning, so that older ones are not found.
const FORMAT: u32 = 1;

/// What is to be prepared.
#[derive(Clone, Copy)]
pub struct PrepareRequest<'a> {
    /// The datasets and how they are packed.
    pub data: &'a DataSpec,
    /// The stages.
    pub stages: &'a [Stage],
    /// The job's seed.
    pub seed: u64,
    /// The job's tokenizer.
    pub tokenizer: &'a dyn TextEncoder,
    /// How the datasets' URIs are resolved.
    pub mounts: &'a Mounts,
    /// Where prepared data is kept.
    pub folder: &'a Path,
    /// The names of the datasets whose held-out part is evaluated on.
    pub evaluated: &'a [String],
    /// How many threads tokenise.
    pub threads: usize,
}

impl std::fmt::Debug for PrepareRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrepareRequest").field("data", self.data).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Prepares a job's data, or finds it prepared. The plan is a function of the request's data, stages, seed and tokenizer
/// and of the datasets' contents, and of nothing else.
///
/// `progress` hears of it, and `cancelled` calls it off; what is whole by then is found the next time.
pub fn prepare(
    request: &PrepareRequest<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
    cancelled: &AtomicBool,
) -> Result<Plan> {
    let mut reporter = Reporter { progress, cancelled };
    fs::create_dir_all(request.folder).map_err(Error::io("create", request.folder))?;
    let ends = Ends::of(request.tokenizer)?;
    let sources = find_sources(request, ends, &mut reporter)?;
    let digest = plan_digest(request, &sources)?;
    let folder = Path::new("plans").join(&digest);
    let path = request.folder.join(&folder);
    if path.join(PLAN).is_file() {
        let plan = Plan::read(&path.join(PLAN), request.folder)?;
        let is_whole = sources.iter().all(|source| source.manifest(request).is_some());
        if is_whole {
            return Ok(plan);
        }
    }
    let read = tokenize_sources(request, sources, ends, &mut reporter)?;
    let plan = compile(request, digest, &folder, read, &mut reporter)?;
    Ok(plan)
}

/// A dataset that is read, and what identifies its tokenised documents.
struct KeyedSource<'a> {
    dataset: &'a Dataset,
    source: Arc<Source>,
    threshold: HoldOutThreshold,
    key: String,
    is_mixed: bool,
}

impl KeyedSource<'_> {
    fn manifest(&self, request: &PrepareRequest<'_>) -> Option<Manifest> {
        tokenized::read_manifest(&tokenized::folder_of(request.folder, &self.key))
    }
}

/// Finds the datasets that a mixture or an evaluation names; the others are not even looked for.
fn find_sources<'a>(
    request: &PrepareRequest<'a>,
    ends: Ends,
    reporter: &mut Reporter<'_>,
) -> Result<Vec<KeyedSource<'a>>> {
    let mut digests = Digests::read(request.folder);
    let mut sources = Vec::new();
    for dataset in &request.data.datasets {
        let mut mixtures = request.stages.iter().flat_map(|stage| &stage.mixture);
        let is_mixed = mixtures.any(|entry| entry.dataset == dataset.name);
        if !is_mixed && !request.evaluated.contains(&dataset.name) {
            continue;
        }
        let source = Arc::new(Source::find(dataset, request.mounts)?);
        let threshold = HoldOutThreshold::of(dataset);
        let contents = digests.of(&source, reporter)?;
        let key = tokenized::key_of(&source, &contents, threshold, request.tokenizer, ends)?;
        sources.push(KeyedSource { dataset, source, threshold, key, is_mixed });
    }
    digests.write(request.folder)?;
    Ok(sources)
}

/// Of everything that decides the plan.
fn plan_digest(request: &PrepareRequest<'_>, sources: &[KeyedSource<'_>]) -> Result<String> {
    let datasets: Vec<_> = sources
        .iter()
        .map(|source| {
            let Dataset { name, uri, language, .. } = source.dataset;
            (name, uri, language, &source.key, &source.source.left_out)
        })
        .collect();
    let stages: Vec<_> = request
        .stages
        .iter()
        .map(|stage| {
            let Stage { name, buckets, mixture, budget, max_repeats, reuse, batch, .. } = stage;
            (name, buckets, mixture, budget, max_repeats, reuse, batch.sequences)
        })
        .collect();
    let DataSpec { sequence_length, packing, attention, .. } = request.data;
    digest_of(&(
        FORMAT,
        request.tokenizer.digest(),
        datasets,
        stages,
        (sequence_length, packing, attention),
        request.seed,
    ))
}

/// A tokenised dataset.
struct ReadDataset<'a> {
    source: KeyedSource<'a>,
    manifest: Manifest,
}

fn tokenize_sources<'a>(
    request: &PrepareRequest<'_>,
    sources: Vec<KeyedSource<'a>>,
    ends: Ends,
    reporter: &mut Reporter<'_>,
) -> Result<Vec<ReadDataset<'a>>> {
    let mut read = Vec::with_capacity(sources.len());
    for source in sources {
        let manifest = match source.manifest(request) {
            Some(manifest) => manifest,
            None => {
                let task = Tokenization {
                    source: &source.source,
                    threshold: source.threshold,
                    encoder: request.tokenizer,
                    ends,
                    threads: request.threads,
                };
                tokenized::tokenize(&task, request.folder, &source.key, reporter)?
            }
        };
        let dataset = source.dataset.name.clone();
        let documents = manifest.documents + manifest.held_out_documents;
        if source.is_mixed && manifest.documents == 0 {
            return Err(Error::AllHeldOut { dataset, documents });
        }
        if request.evaluated.contains(&dataset) && manifest.held_out_documents == 0 {
            return Err(Error::NoneHeldOut { dataset, documents });
        }
        read.push(ReadDataset { source, manifest });
    }
    Ok(read)
}

/// Chooses and packs the documents of every stage into a folder, and the plan after them.
fn compile(
    request: &PrepareRequest<'_>,
    digest: String,
    folder: &Path,
    read: Vec<ReadDataset<'_>>,
    reporter: &mut Reporter<'_>,
) -> Result<Plan> {
    let sequence_length = request.data.sequence_length;
    let packer = Packer { packing: request.data.packing, sequence_length, seed: request.seed };
    let (mut mixed, plan_index) = open_mixed(request, &read)?;
    let staging = Staging::beside(&request.folder.join(folder))?;
    let mut stages = Vec::with_capacity(request.stages.len());
    let mut taken = Vec::with_capacity(request.stages.len());
    for (stage_index, stage) in request.stages.iter().enumerate() {
        let compiled = compile_stage(stage_index, stage, &mut mixed, &packer, reporter.cancelled)?;
        let mixture: Vec<&str> = stage.mixture.iter().map(|entry| entry.dataset.as_str()).collect();
        let writer = BucketWriter { datasets: &mixed, plan_index: &plan_index, mixture: &mixture, sequence_length };
        let all = compiled.buckets.iter().flatten();
        taken.push(all.clone().map(|item| u64::from(item.length)).sum());
        let total = all.map(|item| u64::from(item.length - 1) * BYTES_PER_POSITION).sum();
        let mut done = 0;
        let mut buckets = Vec::with_capacity(compiled.buckets.len());
        for (bucket_index, items) in compiled.buckets.into_iter().enumerate() {
            let indices = [stage_index as u64, bucket_index as u64];
            let packed = packer.pack(items, indices[0], indices[1]);
            let mut order: Vec<u32> = (0..packed.sequences() as u32).collect();
            Stream::new(request.seed, "sequence order", &indices).shuffle(&mut order);
            let name = format!("stage-{stage_index}-bucket-{bucket_index:03}.arrow");
            let file = folder.join(&name).to_string_lossy().into_owned();
            let mut report = |positions: u64| {
                done += positions * BYTES_PER_POSITION;
                reporter.report(Phase::Packing, &stage.name, done, total)
            };
            buckets.push(writer.write(&staging.path().join(&name), file, &packed, &order, &mut report)?);
        }
        let sequences: u64 = buckets.iter().map(|bucket| bucket.sequences).sum();
        let batch_sequences = stage.batch.sequences;
        let steps = sequences.div_ceil(u64::from(batch_sequences.max(1)));
        stages.push(StagePlan { name: stage.name.clone(), steps, batch_sequences, buckets });
    }
    let plan = Plan {
        digest,
        tokenizer: request.tokenizer.digest(),
        sequence_length,
        packing: request.data.packing,
        attention: request.data.attention,
        seed: request.seed,
        certificate: Certificate::new(&stages, &taken, certify(&read, &mixed)),
        stages,
        datasets: read.iter().map(describe).collect(),
        held_out: read.iter().map(describe_held_out).collect(),
        prepared: request.folder.to_owned(),
    };
    let content = serde_json::to_vec_pretty(&plan).map_err(|error| Error::io("write", folder)(error.into()))?;
    staging.publish(PLAN, &content)?;
    Ok(plan)
}

/// Of an id and a label.
const BYTES_PER_POSITION: u64 = 8;

/// Opens the datasets of the mixtures. Gives for each its index in the plan, too.
fn open_mixed(request: &PrepareRequest<'_>, read: &[ReadDataset<'_>]) -> Result<(Vec<MixedDataset>, Vec<u32>)> {
    let (mut mixed, mut plan_index) = (Vec::new(), Vec::new());
    for (index, ReadDataset { source, .. }) in (0..).zip(read) {
        if !source.is_mixed {
            continue;
        }
        let name = source.dataset.name.clone();
        let folder = tokenized::folder_of(request.folder, &source.key);
        let documents = Documents::open(&name, &folder)?;
        let most = request.data.sequence_length;
        if let Some(document) = documents.with_longer_prompt(most) {
            let origins = Origins::open(&folder)?;
            let origin = origins.get(u64::from(document));
            let (file, record) = origin.map_or((0, 0), |origin| (origin.file, origin.record));
            let place = source.source.place(file, record);
            let prompt_ids = documents.prompt_ids(document) - 1;
            return Err(Error::Record { place, problem: RecordProblem::NoRoom { prompt_ids, sequence_length: most } });
        }
        let stream = DatasetStream::new(request.seed, &name, documents.count());
        mixed.push(MixedDataset { name, documents, stream });
        plan_index.push(index);
    }
    Ok((mixed, plan_index))
}

/// What happened to the documents of each dataset.
fn certify(read: &[ReadDataset<'_>], mixed: &[MixedDataset]) -> Vec<DatasetCertificate> {
    let certify_one = |ReadDataset { source, manifest }: &ReadDataset<'_>| {
        let held_out = Amount { documents: manifest.held_out_documents, tokens: manifest.held_out_tokens };
        let others = Amount { documents: manifest.documents, tokens: manifest.tokens };
        let read = Amount { documents: held_out.documents + others.documents, tokens: held_out.tokens + others.tokens };
        let dataset = source.dataset.name.clone();
        let mut certificate = DatasetCertificate { dataset, read, held_out, ..DatasetCertificate::default() };
        let found = mixed.iter().find(|mixed| mixed.name == certificate.dataset);
        let Some(MixedDataset { documents, stream, .. }) = found else {
            return DatasetCertificate { unused: others, ..certificate }.balance();
        };
        for (document, times) in (0..).zip(stream.uses()) {
            let tokens = u64::from(documents.length(document));
            let amount = if *times == 0 { &mut certificate.unused } else { &mut certificate.used };
            amount.documents += 1;
            amount.tokens += tokens;
            certificate.trained.documents += u64::from(*times);
            certificate.trained.tokens += u64::from(*times) * tokens;
            if *times > 0 {
                *certificate.repeated.entry(*times).or_insert(0) += 1;
            }
        }
        certificate.balance()
    };
    read.iter().map(certify_one).collect()
}

fn describe(ReadDataset { source, manifest }: &ReadDataset<'_>) -> DatasetPlan {
    DatasetPlan {
        name: source.dataset.name.clone(),
        language: source.dataset.language.clone(),
        uri: source.dataset.uri.clone(),
        format: source.dataset.format,
        files: manifest.files.clone(),
        left_out_files: source.source.left_out.clone(),
        tokenized: source.key.clone(),
    }
}

fn describe_held_out(ReadDataset { source, manifest }: &ReadDataset<'_>) -> HeldOutPlan {
    HeldOutPlan {
        dataset: source.dataset.name.clone(),
        documents: manifest.held_out_documents,
        tokens: manifest.held_out_tokens,
        text_bytes: manifest.held_out_bytes,
    }
}

//! What is known of a job at one moment: all that a plan is made from.

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{
    CheckpointStatus, EvaluationStatus, Precision, Progress, StageStatus, TrainingJobSpec, TrainingJobStatus,
};
use palimpsest_coordinator::State;

use crate::observe::{Block, PodView};
use crate::queue::{Place, Workload};
use crate::resource::TrainingJob;

/// What is known of a job at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sight<'s> {
    /// Its metadata: whether it is deleted, and since when.
    pub(crate) job: &'s TrainingJob,
    /// What is asked for; what was admitted of it, where it is queued.
    pub(crate) spec: &'s TrainingJobSpec,
    /// Where it stands in its queue.
    pub(crate) place: &'s Place,
    /// What it asks its queue with, where that is made.
    pub(crate) workload: Option<&'s Workload>,
    /// What was said last.
    pub(crate) status: &'s TrainingJobStatus,
    /// Its pods, by index and incarnation.
    pub(crate) pods: &'s [PodView],
    /// How its agents are coordinated, where they are.
    pub(crate) coordination: Option<Coordination>,
    /// What agents have told since this operator leads.
    pub(crate) told: &'s Told,
    /// Why the newest pod could not be made.
    pub(crate) refusal: Option<&'s Refused>,
    /// The lowest number of a pod's name that was given out and that no pod came of: the API server refused it.
    pub(crate) unused: Option<u64>,
    /// What pods that failed on their own leave behind.
    pub(crate) failures: &'s Failures,
    /// The time.
    pub(crate) now: Timestamp,
}

/// Why a pod could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may be let pass later.
    Blocked(Block),
    /// The template is none.
    Invalid(String),
}

impl Refused {
    /// One CamelCase word.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Blocked(block) => block.reason,
            Self::Invalid(_) => "InvalidTemplate",
        }
    }
}

/// Where the coordinator stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Coordination {
    /// Its state.
    pub(crate) state: State,
    /// The newest attempt.
    pub(crate) attempt: u64,
    /// The attempt that runs, as far as is known: its end is still to be counted.
    pub(crate) under_way: Option<u64>,
    /// Restarts by failure, those before this coordinator included.
    pub(crate) restarts: u32,
    /// Failures since the newest checkpoint, whoever coordinated.
    pub(crate) failures: u32,
    /// Restarts by disruption, the same.
    pub(crate) disruptions: u32,
    /// Since when it waits for its agents, if it does.
    pub(crate) waiting_since: Option<Timestamp>,
    /// When time alone changes something.
    pub(crate) next_deadline: Option<Timestamp>,
    /// Why the user has to mend something, as the worker called it.
    pub(crate) reason: Option<String>,
}

/// What pods that failed on their own leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// When another may be made.
    pub(crate) not_before: Option<Timestamp>,
    /// A failure that the user has to mend: its reason and message.
    pub(crate) of_user: Option<(String, String)>,
}

/// What agents have told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// Whether a worker's last words were that the output is published.
    pub(crate) is_published: bool,
    /// The digest of the published model.
    pub(crate) digest: Option<String>,
    /// What the ranks compute in.
    pub(crate) precision: Option<Precision>,
    /// What the ranks are at.
    pub(crate) activity: Option<Activity>,
    /// Where in the stages.
    pub(crate) stage: Option<StageStatus>,
    /// How far, and how fast.
    pub(crate) progress: Option<Progress>,
    /// The newest checkpoint.
    pub(crate) checkpoint: Option<CheckpointStatus>,
    /// The newest measurement of each evaluation.
    pub(crate) evaluation: Vec<EvaluationStatus>,
    /// Since when no step has come although steps are due, and how long one usually takes, in seconds.
    pub(crate) still: Option<(Timestamp, u64)>,
}

/// What the ranks are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Data and tokenizer.
    Preparing,
    /// Weights.
    Loading,
    /// Measuring.
    Evaluating,
    /// Taking steps.
    Training,
    /// Writing the output.
    Exporting,
}

impl Activity {
    /// As State shows it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Loading => "Loading",
            Self::Evaluating => "Evaluating",
            Self::Training => "Training",
            Self::Exporting => "Exporting",
        }
    }
}

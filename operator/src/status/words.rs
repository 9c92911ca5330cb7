//! What `kubectl get` shows as State, and the sentence behind it.

use palimpsest_coordinator::State;

use crate::plan::{Activity, Refused, Sight, Verdict};

/// The reason and the message of the condition Progressing.
pub(super) struct Words {
    pub(super) reason: String,
    pub(super) message: String,
}

pub(super) fn words(sight: &Sight<'_>, verdict: &Verdict) -> Words {
    let (reason, message) = match verdict {
        Verdict::Going => ("Terminating", "the job is deleted; its pods are ending".to_owned()),
        // Not asked for: what was said at the end stays.
        Verdict::Over => ("Over", String::new()),
        Verdict::Succeeds { already: false } => ("Succeeded", format!("the model is in {}", sight.spec.output.uri)),
        Verdict::Succeeds { already: true } => {
            ("Succeeded", format!("{} holds the model of this very job already", sight.spec.output.uri))
        }
        Verdict::Fails { message, .. } => ("Failed", message.clone()),
        Verdict::Suspending => ("Suspending", "the workers write a last checkpoint".to_owned()),
        Verdict::Suspended => match sight.refusal {
            Some(Refused::Invalid(why)) => {
                ("InvalidTemplate", format!("spec.workers.template: {why}; mend it before the job is resumed"))
            }
            _ => ("Suspended", suspended(sight)),
        },
        Verdict::Evicting(block) => ("Evicting", format!("the workers write a last checkpoint; {}", block.message)),
        Verdict::Held(block) => {
            let stopped = lost_steps(sight).map_or(String::new(), |steps| format!("stopped {steps}; "));
            (block.reason, stopped + &block.message)
        }
        Verdict::Starting(Some(block)) | Verdict::Still(block) => (block.reason, block.message.clone()),
        Verdict::Starting(None) => ("Starting", "the workers are starting".to_owned()),
        Verdict::Running(Some(activity)) => (activity.reason(), doing(*activity).to_owned()),
        Verdict::Running(None) => ("Running", "the workers have been told to begin".to_owned()),
        Verdict::BackingOff { message } => ("BackingOff", format!("{message}; it is tried again")),
    };
    Words { reason: reason.to_owned(), message }
}

fn doing(activity: Activity) -> &'static str {
    match activity {
        Activity::Preparing => "the workers prepare the data and the tokenizer",
        Activity::Loading => "the workers load the model",
        Activity::Evaluating => "the workers evaluate the model",
        Activity::Training => "the workers train the model",
        Activity::Exporting => "the workers write the model to spec.output.uri",
    }
}

/// How far a suspended job had come.
fn suspended(sight: &Sight<'_>) -> String {
    lost_steps(sight).map_or_else(
        || {
            // Said when it was suspended.
            let before = sight.status.condition("Progressing");
            let before = before.filter(|condition| condition.reason == "Suspended");
            before.map_or_else(|| "spec.suspend is true".to_owned(), |condition| condition.message.clone())
        },
        |steps| format!("suspended {steps}"),
    )
}

/// How far the job had come when it was stopped, and what of that is lost; nothing where that is not known.
fn lost_steps(sight: &Sight<'_>) -> Option<String> {
    sight.coordination.as_ref().filter(|coordination| coordination.state == State::Stopped)?;
    let step = sight.told.progress.as_ref()?.step;
    let kept = sight.told.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
    Some(if step > kept {
        format!("after step {step}; the newest checkpoint is of step {kept}, so {} steps are lost", step - kept)
    } else {
        format!("after step {step}, with a checkpoint")
    })
}

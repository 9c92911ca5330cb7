//! Who an agent is, and whether it may attach.

use palimpsest_proto::control::Hello;
use tonic::{Status, async_trait};

/// Decides who may attach. Asked once for each stream.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// Says who shows `token`, the bearer token of the request, and says `hello`.
    async fn authenticate(&self, token: Option<&str>, hello: &Hello) -> Result<Caller, Refusal>;
}

/// Who an agent has been shown to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The pod's name; on loopback the name that the agent gave itself.
    pub pod: String,
    /// The pod's namespace; empty on loopback.
    pub namespace: String,
    /// The pod's UID; empty on loopback.
    pub uid: String,
}

/// Why an agent may not attach: one sentence, which the agent logs. It dials again whatever the reason is, because tokens
/// and leaders change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is absent or not valid.
    Unauthenticated(String),
    /// It is known who this is, and it has no business here.
    Forbidden(String),
    /// Another replica coordinates.
    NotLeader(String),
    /// It cannot be told at present who this is.
    Unavailable(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated(why) => Self::unauthenticated(why),
            Refusal::Forbidden(why) => Self::permission_denied(why),
            Refusal::NotLeader(why) => Self::failed_precondition(why),
            Refusal::Unavailable(why) => Self::unavailable(why),
        }
    }
}

/// Accepts everybody: who can reach the loopback address of a machine is its user's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback;

#[async_trait]
impl Authenticate for Loopback {
    async fn authenticate(&self, _: Option<&str>, hello: &Hello) -> Result<Caller, Refusal> {
        Ok(Caller { pod: hello.agent.clone(), ..Caller::default() })
    }
}

//! The HTTP side: routes, and what is the same for all of them.

mod answer;
mod body;
mod events;
mod observe;
mod routes;
mod stall;

pub(crate) use routes::router;
pub(crate) use stall::Stalling;

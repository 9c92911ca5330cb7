//! The wire format between coordinator and agents, generated from `proto/control.proto`.

/// How agents and a coordinator talk; the comments are those of `control.proto`.
pub mod control {
    #![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all)]

    tonic::include_proto!("palimpsest.control.v1");
}

//! The wire formats, generated from `proto/*.proto`.

/// How agents and a coordinator talk; the comments are those of `control.proto`.
pub mod control {
    #![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all)]

    tonic::include_proto!("palimpsest.control.v1");
}

/// How requests reach an engine and tokens leave it; the comments are those of `inference.proto`.
pub mod inference {
    #![allow(missing_docs, unreachable_pub, missing_debug_implementations, clippy::all)]

    tonic::include_proto!("palimpsest.inference.v1");
}

//! The messages of CRIU's RPC, generated from `proto/rpc.proto` and `proto/stats.proto`.
//!
//! Names, numbers, types, presence and defaults are those of CRIU 4.2's `images/rpc.proto` and
//! `images/stats.proto`. A required field is no `Option`: that it was there is seen to where a
//! message is decoded, since prost does not.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/criu.rs"));

/// What a dump or a restore leaves in its work directory about itself.
pub mod stats {
    include!(concat!(env!("OUT_DIR"), "/criu.stats.rs"));
}

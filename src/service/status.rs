//! The one place where an error becomes a ttrpc status.
//!
//! Errors below say step and thing and carry their cause as a source; here the chain is written
//! out once, and the kind becomes the code that containerd's clients look at.

use std::error::Error;

use containerd_shim_protos::ttrpc::{self, Code};
use stasis_linux::chain;
use stasis_proc::ErrorKind;

/// The ttrpc status of an error of some kind, its whole chain as the message.
pub fn status(kind: ErrorKind, error: &dyn Error) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code(kind), chain(error)))
}

/// The status of a call that this shim does not serve.
pub fn unimplemented(call: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(
        Code::UNIMPLEMENTED,
        format!("{call} is not implemented by this shim"),
    ))
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NOT_FOUND,
        ErrorKind::AlreadyExists => Code::ALREADY_EXISTS,
        ErrorKind::FailedPrecondition => Code::FAILED_PRECONDITION,
        ErrorKind::InvalidArgument => Code::INVALID_ARGUMENT,
        ErrorKind::Unimplemented => Code::UNIMPLEMENTED,
        ErrorKind::DeadlineExceeded => Code::DEADLINE_EXCEEDED,
        ErrorKind::Internal => Code::INTERNAL,
        // What the runc shim answers when its runtime fails.
        ErrorKind::Unknown => Code::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot open image directory /x")]
        Open(#[source] io::Error),
    }

    #[test]
    fn a_status_holds_the_whole_chain_and_the_code() {
        let error = Outer::Open(io::Error::other("no such file"));
        let ttrpc::Error::RpcStatus(status) = status(ErrorKind::NotFound, &error) else {
            panic!("not a status")
        };
        assert_eq!(
            status.message(),
            "cannot open image directory /x: no such file"
        );
        assert_eq!(status.code(), Code::NOT_FOUND);
    }
}

//! The error number of a reply. CRIU sets few, often none, and the first one stands.
//!
//! Facts: CRIU 4.2's callers of `set_cr_errno` (criu/seize.c, util.c, cr-restore.c,
//! cr-service.c), and what its RPC answered.

use std::fmt;

use rustix::io::Errno;

use crate::request::Request;

/// The error number of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrErrno {
    /// ESRCH.
    NoSuchProcess,
    /// EEXIST.
    Exists,
    /// EBADRQC.
    BadRequest,
    /// ENOTSUP.
    NotSupported,
    /// Any other number.
    Other(i32),
}

impl CrErrno {
    /// The number of a reply. `None` for 0, which is no error.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        const SRCH: i32 = Errno::SRCH.raw_os_error();
        const EXIST: i32 = Errno::EXIST.raw_os_error();
        const BADRQC: i32 = Errno::BADRQC.raw_os_error();
        const NOTSUP: i32 = Errno::NOTSUP.raw_os_error();
        // Some of CRIU's code has its error numbers negative.
        match number.checked_abs().unwrap_or(i32::MAX) {
            0 => None,
            SRCH => Some(Self::NoSuchProcess),
            EXIST => Some(Self::Exists),
            BADRQC => Some(Self::BadRequest),
            NOTSUP => Some(Self::NotSupported),
            other => Some(Self::Other(other)),
        }
    }

    /// What it means in the reply to `request`, where CRIU gives it a meaning.
    #[must_use]
    pub fn meaning(self, request: Request) -> Option<&'static str> {
        Some(match (self, request) {
            (Self::NoSuchProcess, Request::Restore) => {
                "a process that CRIU looked for is not there"
            }
            // CRIU says so as well when it may not stop the process.
            (Self::NoSuchProcess, _) => {
                "there is no process of that number, or it is traced by another or dead"
            }
            (Self::Exists, Request::Restore) => "a process of that number is there already",
            (Self::BadRequest, _) => "CRIU refused the options, or a directory among them",
            (Self::NotSupported, Request::CpuinfoCheck) => {
                "this machine's processor lacks what the image needs"
            }
            (Self::NotSupported, Request::CpuinfoDump) => {
                "CRIU cannot tell what this machine's processor has"
            }
            (Self::Exists | Self::NotSupported | Self::Other(_), _) => return None,
        })
    }
}

impl fmt::Display for CrErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess => f.write_str("ESRCH"),
            Self::Exists => f.write_str("EEXIST"),
            Self::BadRequest => f.write_str("EBADRQC"),
            Self::NotSupported => f.write_str("ENOTSUP"),
            Self::Other(number) => write!(f, "error number {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_error_and_the_sign_does_not_matter() {
        assert_eq!(CrErrno::new(0), None);
        assert_eq!(CrErrno::new(3), Some(CrErrno::NoSuchProcess));
        assert_eq!(CrErrno::new(-17), Some(CrErrno::Exists));
        assert_eq!(CrErrno::new(56), Some(CrErrno::BadRequest));
        assert_eq!(CrErrno::new(95), Some(CrErrno::NotSupported));
        assert_eq!(CrErrno::new(i32::MIN), Some(CrErrno::Other(i32::MAX)));
    }

    #[test]
    fn a_number_means_what_the_request_makes_of_it() {
        let meaning = |request| CrErrno::Exists.meaning(request);
        assert!(meaning(Request::Restore).is_some());
        assert_eq!(meaning(Request::Dump), None);
        assert_eq!(CrErrno::Other(5).to_string(), "error number 5");
    }
}

//! How a process ended.

use std::fmt;

use rustix::process::WaitIdStatus;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It returned, with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It ended, and the kernel tells nobody but its parent how: it was not our child, and either
    /// the kernel is older than Linux 6.15, or its parent does not take its status.
    Unknown,
}

impl Exit {
    /// From the status that wait(2) gives.
    pub(super) fn of_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// From what waitid(2) gives.
    pub(super) fn of_child(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (_, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// Did it return zero?
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status as a shell would have it: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_status(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Unknown => f.write_str("exited, status unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(Exit::of_wait_status(0), Exit::Code(0));
        assert_eq!(Exit::of_wait_status(7 << 8), Exit::Code(7));
        assert_eq!(Exit::of_wait_status(9), Exit::Signal(9));
        // With a core dump.
        assert_eq!(Exit::of_wait_status(0x80 | 6), Exit::Signal(6));
    }

    #[test]
    fn a_shell_adds_128_to_a_signal() {
        assert_eq!(Exit::Code(3).shell_status(), Some(3));
        assert_eq!(Exit::Signal(15).shell_status(), Some(143));
        assert_eq!(Exit::Unknown.shell_status(), None);
    }
}

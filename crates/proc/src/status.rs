//! The state of a process, as a client is told.

/// The state of a process, as a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is being made, or waits to be started or restored.
    Created,
    /// It runs.
    Running,
    /// It is being frozen.
    Pausing,
    /// It is frozen.
    Paused,
    /// It has ended.
    Stopped,
    /// Nothing is left of it.
    Deleted,
}

//! The verbs of a container, as they are named in refusals.

/// What can be asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Start,
    Restore,
    Exec,
    Pause,
    Resume,
    Checkpoint,
    Kill,
    Delete,
}

impl Verb {
    /// The verb, so that a noun can follow.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Restore => "restore",
            Self::Exec => "exec in",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Checkpoint => "checkpoint",
            Self::Kill => "kill",
            Self::Delete => "delete",
        }
    }

    /// The verb as a thing that is in progress.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Create => "a create",
            Self::Start => "a start",
            Self::Restore => "a restore",
            Self::Exec => "an exec",
            Self::Pause => "a pause",
            Self::Resume => "a resume",
            Self::Checkpoint => "a checkpoint",
            Self::Kill => "a kill",
            Self::Delete => "a delete",
        }
    }
}

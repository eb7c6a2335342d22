//! runsc's failure for another container's end.
//!
//! To find a container, runsc opens the state file of every one in its root, and one of them may
//! go between listing and opening: seen of 2024-07-29 and 2026-07-01. Nothing was done then.

/// Whether runsc failed because another container was deleted while it looked for its own.
pub(super) fn was_met(message: &str) -> bool {
    message.contains("loading container: open ")
        && message.contains("_sandbox:")
        && message.ends_with("no such file or directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_state_file_of_a_container_that_went_is_a_deletion_met() {
        assert!(was_met(
            "loading container: open /r/c2_sandbox:c2.state: no such file or directory"
        ));
        assert!(!was_met("loading container: file does not exist"));
        assert!(!was_met(
            "open /x_sandbox:x.state: no such file or directory"
        ));
    }
}

//! An error and its causes, as people read them.

use std::error::Error;

/// An error and its causes, outermost first, as one line.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error shows the text of its cause as its own.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent(io::Error);

    #[test]
    fn a_transparent_error_is_not_said_twice() {
        assert_eq!(chain(&Transparent(io::Error::other("full"))), "full");
    }
}

//! An error and its causes as one line, for where it leaves the process: an answer, standard error,
//! the log.

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
    enum Outer {
        #[error("cannot open image directory /x")]
        Open(#[source] io::Error),
        #[error(transparent)]
        Inner(io::Error),
    }

    #[test]
    fn causes_follow_the_error() {
        let error = Outer::Open(io::Error::other("no such file"));
        assert_eq!(
            chain(&error),
            "cannot open image directory /x: no such file"
        );
    }

    #[test]
    fn a_transparent_error_is_not_said_twice() {
        assert_eq!(chain(&Outer::Inner(io::Error::other("full"))), "full");
    }
}

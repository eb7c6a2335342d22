//! What stands in CRIU's log, and in what it writes to stderr before the log is open.
//!
//! A line reads `(SECONDS) [PID: ]Error (FILE:LINE): TEXT` or `Warn  (FILE:LINE): TEXT`, all
//! others `(SECONDS) [PID: ]TEXT`; the parasite's and the restorer's begin with `pie: PID: `.
//! Programs that CRIU runs, such as tar, iptables and ip, write their own lines in between.
//!
//! The cause is not the first error: runs that succeed have errors too, some causes are told below
//! the level of errors only, and a full disk shows late, behind whatever was not written first.

use super::causes::KnownCause;
use crate::{request::Request, version::Version};

/// Errors in the logs of runs that succeeded, or that say no more than that it has failed.
const NOISE: &[&str] = &[
    // Without CAP_SYS_RESOURCE; nearly every log has it then.
    "Can't setup RLIMIT_NOFILE for self",
    // CRIU detaches from a process that it never attached to, after the cause.
    "Unable to detach from",
    "umping FAILED",
    "Restoring FAILED",
    "Lazy pages transfer FAILED",
];

/// The last words of runs that succeeded.
const SUCCESS: [&str; 2] = [
    "Dumping finished successfully",
    "Restore finished successfully. Tasks resumed.",
];

/// What a text tells of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) text: String,
    pub(super) known: Option<KnownCause>,
}

/// The cause that `log`, a log or stderr, tells.
pub(super) fn cause(log: &str, request: Request) -> Option<Finding> {
    // Whatever failed then was not CRIU.
    if log.lines().any(|line| SUCCESS.contains(&statement(line))) {
        return None;
    }
    full_disk(log)
        .or_else(|| known_among(log, errors(log), request))
        .or_else(|| {
            errors(log).next().map(|(_, text)| Finding {
                text: text.to_owned(),
                known: None,
            })
        })
        .or_else(|| {
            known_among(
                log,
                log.lines().map(|line| (line, statement(line))),
                request,
            )
        })
}

/// Whether `text` only looks like a cause.
pub(super) fn is_noise(text: &str) -> bool {
    NOISE.iter().any(|noise| text.contains(noise))
}

/// What a line says, without the time, the process and the place.
pub(super) fn statement(line: &str) -> &str {
    if let Some(text) = error(line).or_else(|| placed(line, "Warn  (")) {
        return text;
    }
    let untimed = match line.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((time, rest)) if time.bytes().all(|b| b.is_ascii_digit() || b == b'.') => rest,
        _ => line,
    };
    let text = untimed.trim().trim_start_matches("pie: ");
    match text.split_once(": ") {
        Some((pid, text)) if pid.bytes().all(|b| b.is_ascii_digit()) => text.trim(),
        _ => text,
    }
}

/// The release of the CRIU that wrote `log`, which is among its first lines.
pub(super) fn version(log: &str) -> Option<Version> {
    let mut statements = log.lines().map(statement);
    let told = statements.find_map(|text| text.strip_prefix("Version: "))?;
    let mut words = told.split_whitespace();
    let mut numbers = words.next()?.split('.').map(|number| number.parse().ok());
    let mut version = Version::new(numbers.next()??, numbers.next()??, 0);
    version.sublevel = numbers.next().unwrap_or(Some(0))?;
    // `(gitid 0)` of a release.
    let gitid = words.nth(1).map(|word| word.trim_end_matches(')'));
    version.gitid = gitid.filter(|id| *id != "0").map(str::to_owned);
    Some(version)
}

fn errors(log: &str) -> impl Iterator<Item = (&str, &str)> {
    log.lines()
        .filter_map(|line| Some((line, error(line)?)))
        .filter(|(_, text)| !is_noise(text))
}

fn error(line: &str) -> Option<&str> {
    placed(line, "Error (")
}

fn placed<'a>(line: &'a str, level: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(level)?;
    let (_place, text) = rest.split_once("): ")?;
    Some(text.trim())
}

fn full_disk(log: &str) -> Option<Finding> {
    log.lines()
        .map(statement)
        .find(|text| {
            // Any request will do: a disk is full at all of them.
            KnownCause::told_by(text, Request::Version) == Some(KnownCause::NoSpace)
        })
        .map(|text| Finding {
            text: text.to_owned(),
            known: Some(KnownCause::NoSpace),
        })
}

fn known_among<'a>(
    log: &'a str,
    lines: impl Iterator<Item = (&'a str, &'a str)>,
    request: Request,
) -> Option<Finding> {
    lines
        .filter_map(|(line, text)| Some((line, text, KnownCause::told_by(text, request)?)))
        .map(|(line, text, known)| {
            let which = match known {
                KnownCause::ImageMissing => missing_image(log, line),
                _ => None,
            };
            let known = match known {
                KnownCause::ParentUnusable if is_page_servers_parent(log) => {
                    KnownCause::ParentAtPageServer
                }
                known => known,
            };
            Finding {
                text: which.unwrap_or(text).to_owned(),
                known: Some(known),
            }
        })
        // Where the connection was lost as well, that tells more.
        .min_by_key(|finding| finding.known == Some(KnownCause::ParentAtPageServer))
}

/// Whether the parent that CRIU misses is one that only the page server spoke of. CRIU warns of
/// one of its own that it cannot use (4.2.1, criu/image.c, `get_parent_inventory`).
fn is_page_servers_parent(log: &str) -> bool {
    let warned = |text: &str| {
        text.contains("arent pre-dump inventory") || text.contains("open parent directory")
    };
    let mut statements = log.lines().map(statement);
    let serves = |text: &str| text.contains("Disconnect from the page server");
    statements.clone().any(serves) && !statements.any(warned)
}

/// Which image the error in `line` is about: the last that CRIU did not find before. It does not
/// find many, and minds few.
fn missing_image<'a>(log: &'a str, line: &str) -> Option<&'a str> {
    log.lines()
        .take_while(|before| *before != line)
        .map(statement)
        .filter(|text| text.starts_with("No ") && text.ends_with(" image"))
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISY: &str = "(00.000029) Version: 4.2.1 (gitid 0)\n\
        (00.053721) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n";

    fn of(lines: &str) -> Option<Finding> {
        cause(&format!("{NOISY}{lines}"), Request::Dump)
    }

    #[test]
    fn an_unknown_error_is_told_as_it_is_and_what_follows_is_not() {
        let found = of("pie: 7: Error (criu/x.c:1): something new\n\
             (00.2) Error (criu/cr-dump.c:1545): Dump files (pid: 7) failed with -1\n")
        .unwrap();
        assert_eq!(found.text, "something new");
        assert_eq!(found.known, None);
    }

    #[test]
    fn a_full_disk_wins_whatever_failed_first_and_whoever_tells_it() {
        let tmpfs = "(00.1) Error (criu/page-xfer.c:9): something else\n\
            gzip: stdout: No space left on device\n\
            (00.2) Error (criu/util.c:657): exited, status=2\n";
        let found = of(tmpfs).unwrap();
        assert_eq!(found.text, "gzip: stdout: No space left on device");
        assert_eq!(found.known, Some(KnownCause::NoSpace));
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing_but_noise() {
        assert_eq!(of(""), None);
        assert_eq!(of("Error: ipv4: Address already assigned.\n"), None);
        assert_eq!(
            of("(00.2) Error (criu/cr-dump.c:1975): Dumping FAILED.\n"),
            None
        );
    }

    #[test]
    fn a_cause_of_another_request_is_none() {
        let text = "(00.1) Error (criu/cr-restore.c:1237): Can't fork for 7: File exists\n";
        assert_eq!(
            cause(text, Request::Restore).unwrap().known,
            Some(KnownCause::PidTaken)
        );
        assert_eq!(cause(text, Request::Dump).unwrap().known, None);
    }

    #[test]
    fn a_statement_has_neither_time_nor_place() {
        for (line, text) in [
            ("(00.1) Error (a.c:1): x: y", "x: y"),
            ("(00.1)      7: Error (a.c:1): x", "x"),
            ("(00.1) Warn  (a.c:1): x", "x"),
            ("(00.1) x (y)", "x (y)"),
            ("(a) b", "(a) b"),
            ("(00.1)      7: No x image", "No x image"),
            ("pie: 7: `- returned 0", "`- returned 0"),
            ("tar: x", "tar: x"),
        ] {
            assert_eq!(statement(line), text, "{line}");
        }
    }

    #[test]
    fn a_log_tells_which_criu_wrote_it() {
        assert_eq!(version(NOISY), Some(Version::new(4, 2, 1)));
        assert_eq!(
            version("(00.1) Version: 4.2 (gitid 0)\n"),
            Some(Version::new(4, 2, 0))
        );
        let built = version("(00.1) Version: 4.1.1 (gitid v4.1-77-gabc)\n").expect("is told");
        assert_eq!(built.gitid.as_deref(), Some("v4.1-77-gabc"));
        for none in ["(00.1) nothing\n", "(00.1) Version: new\n", ""] {
            assert_eq!(version(none), None);
        }
    }
}

//! Options as a configuration file of CRIU.
//!
//! A line is `name=value`: what has no blank goes to `getopt_long(3)` as it stands, with `#`,
//! quotes and backslashes. The documented `name value` cuts a value at `#`, does not reach options
//! whose value may be left out (`manage-cgroups full` is read as `manage-cgroups`), and has a
//! mangled kind of quotes. Only a value with blanks has to be written in those, and CRIU then looks
//! for further blanks in the wrong place: from the offset that the value had in its line. What
//! that hits is refused.
//!
//! From `parse_statement` of `criu/config.c`, tried with 4.1.1 and 4.2.1.

use super::{
    Options, cgroups,
    check::Context,
    error::OptionError,
    namespaces,
    table::{Given, Key, Row},
    tasks,
};
use crate::{request::Request, version::Version};

impl Options {
    /// The options as a configuration file that these requests read, such as the dump and the
    /// restore of a runtime that is given one file for both. An option that is for none of them is
    /// refused; one that is only for some is not seen by the others.
    ///
    /// The images directory is not in it: the request names that. CRIU reads the file last, so it
    /// overrides what the request says, but for the log level, which is the request's.
    ///
    /// ```
    /// use stasis_criu::{Options, Request, options::CgroupMode};
    ///
    /// let options = Options::new("/var/lib/images")
    ///     .tcp_close(true)
    ///     .manage_cgroups(CgroupMode::Soft);
    /// let file = options.to_config(&[Request::Dump, Request::Restore], None)?;
    /// assert_eq!(file, "tcp-close\nmanage-cgroups=soft\n");
    /// # Ok::<(), stasis_criu::options::OptionError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// An option that a file cannot carry, that would do harm to one of the requests, or that is
    /// refused in a message too.
    pub fn to_config(
        &self,
        readers: &[Request],
        version: Option<&Version>,
    ) -> Result<String, OptionError> {
        let mut file = String::new();
        for reader in readers {
            let context = Context {
                request: *reader,
                version,
                in_a_file: true,
            };
            self.check_values(context)?;
            for (row, _) in self.given() {
                context.since(row.name, row.since)?;
            }
        }
        cgroups::check_for_file(self)?;
        namespaces::check_for_file(self)?;
        tasks::check_for_file(self)?;
        for (row, given) in self.given() {
            check_readers(self, row, readers)?;
            write_row(&mut file, row, given)?;
        }
        Ok(file)
    }
}

/// An option is for at least one of the readers, and does no harm to the others.
fn check_readers(options: &Options, row: &Row, readers: &[Request]) -> Result<(), OptionError> {
    let (takers, others): (Vec<Request>, Vec<Request>) = readers
        .iter()
        .partition(|reader| row.requests.contains(reader));
    let Some(&other) = others.first() else {
        return Ok(());
    };
    if takers.is_empty() {
        return Err(OptionError::WrongRequest {
            option: row.name,
            request: other,
            takes: row.requests,
        });
    }
    let Key::Exclusive { harm, .. } = row.key else {
        return Ok(());
    };
    // The key may have been asked for in its other meaning too.
    let asked = |reader: &Request| {
        let same = |(other, _): (&Row, Given)| {
            other.number == row.number && other.requests.contains(reader)
        };
        options.given().any(same)
    };
    match others.into_iter().find(|other| !asked(other)) {
        None => Ok(()),
        Some(request) => Err(OptionError::Harmful {
            option: row.name,
            request,
            reason: harm,
        }),
    }
}

fn write_row(file: &mut String, row: &Row, given: Given) -> Result<(), OptionError> {
    let key = match row.key {
        Key::Named(key) | Key::Exclusive { key, .. } => key,
        // The pairs have keys of their own.
        Key::Several(_) => "",
        Key::None(reason) => {
            return Err(OptionError::NoKey {
                option: row.name,
                reason,
            });
        }
    };
    match given {
        Given::No => {}
        // The same key may be asked for in two meanings.
        Given::On => {
            if !file.lines().any(|before| before == key) {
                file.push_str(key);
                file.push('\n');
            }
        }
        Given::Values(values) => {
            for value in values {
                write_value(file, row.name, key, &value.to_string_lossy())?;
            }
        }
        Given::Pairs(pairs) => {
            for (key, value) in pairs {
                match value {
                    None => {
                        file.push_str(key);
                        file.push('\n');
                    }
                    Some(value) => write_value(file, row.name, key, &value.to_string_lossy())?,
                }
            }
        }
        Given::Descriptor => {
            return Err(OptionError::NoKey {
                option: row.name,
                reason: "a descriptor of the client means nothing in a file; give a path or an \
                         address",
            });
        }
    }
    Ok(())
}

fn write_value(
    file: &mut String,
    option: &'static str,
    key: &str,
    value: &str,
) -> Result<(), OptionError> {
    let refuse = |reason| {
        Err(OptionError::Unwritable {
            option,
            value: value.to_owned(),
            reason,
        })
    };
    if value.contains('\n') {
        return refuse("a line ends at its first newline");
    }
    if !value.contains([' ', '\t']) {
        file.push_str(&format!("{key}={value}\n"));
        return Ok(());
    }
    if takes_no_detached_value(key) {
        return refuse("with a blank in it CRIU takes the option to have no value");
    }
    if value.contains(['#', '"', '\\']) {
        return refuse("with a blank in it there can be no `#`, quote or backslash");
    }
    // Where CRIU looks for a blank behind a value in quotes: name, blank, quote and one more. In a
    // shorter value that is behind its end, in what `calloc(3)` has cleared.
    let offset = key.len() + 3;
    if value.bytes().skip(offset).any(|byte| byte == b' ') {
        return refuse("CRIU takes a blank that is this far into the value for its end");
    }
    file.push_str(&format!("{key} \"{value}\"\n"));
    Ok(())
}

/// The options whose value may be left out: `getopt_long(3)` does not look for it in the next
/// word.
fn takes_no_detached_value(key: &str) -> bool {
    matches!(
        key,
        "manage-cgroups" | "cpu-cap" | "verbosity" | "ext-unix-sk"
    )
}

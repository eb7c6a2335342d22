//! Which properties of cgroups are dumped, in the language that CRIU has for it.
//!
//! CRIU fails without a word on what it does not understand, so that is found here. The language,
//! as `cgp_parse_stream` of `criu/cgroup-props.c` (4.2) reads it:
//!
//! ```text
//! "cpu":
//!  - "strategy": "replace"
//!  - "properties": ["cpu.shares", "cpu.cfs_period_us"]
//! ```

use std::{fmt, io, path::Path, str::FromStr};

use crate::options::error::OptionError;

/// More than all properties of all controllers take.
const LARGEST_FILE: u64 = 1 << 20;

/// Which properties of cgroups are dumped, by controller.
///
/// ```
/// use stasis_criu::options::{CgroupProperties, CgroupStrategy};
///
/// let properties = CgroupProperties::default()
///     .controller("cpu", CgroupStrategy::Merge, ["cpu.uclamp.min"]);
/// let text = "\"cpu\":\n - \"strategy\": \"merge\"\n - \"properties\": [\"cpu.uclamp.min\"]\n";
/// assert_eq!(properties.to_string(), text);
/// assert_eq!(text.parse::<CgroupProperties>()?, properties);
/// # Ok::<(), stasis_criu::options::OptionError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupProperties(Vec<Controller>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Controller {
    name: String,
    strategy: CgroupStrategy,
    properties: Vec<String>,
}

/// What becomes of the properties that CRIU knows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupStrategy {
    /// They are dumped as well.
    Merge,
    /// They are not dumped.
    Replace,
}

impl CgroupStrategy {
    fn word(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Replace => "replace",
        }
    }
}

impl CgroupProperties {
    /// Dumps these properties of a controller.
    #[must_use]
    pub fn controller<T: Into<String>>(
        mut self,
        name: impl Into<String>,
        strategy: CgroupStrategy,
        properties: impl IntoIterator<Item = T>,
    ) -> Self {
        self.0.push(Controller {
            name: name.into(),
            strategy,
            properties: properties.into_iter().map(Into::into).collect(),
        });
        self
    }
}

impl fmt::Display for CgroupProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for controller in &self.0 {
            writeln!(f, "\"{}\":", controller.name)?;
            writeln!(f, " - \"strategy\": \"{}\"", controller.strategy.word())?;
            f.write_str(" - \"properties\": [")?;
            for (place, property) in controller.properties.iter().enumerate() {
                let separator = if place == 0 { "" } else { ", " };
                write!(f, "{separator}\"{property}\"")?;
            }
            f.write_str("]\n")?;
        }
        Ok(())
    }
}

impl FromStr for CgroupProperties {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        parse(text).map_err(|at| {
            let reason = "CRIU expects `\"CONTROLLER\":`, ` - \"strategy\": \"merge\"` (or \
                          \"replace\") and ` - \"properties\": [\"NAME\", ...]`, each on a line";
            OptionError::value("cgroup_props", at, reason)
        })
    }
}

/// What is set by hand is put together by the same rules as what is read.
pub(super) fn check(properties: &CgroupProperties) -> Result<(), OptionError> {
    let read: CgroupProperties = properties.to_string().parse()?;
    if read == *properties {
        return Ok(());
    }
    let reason = "a name with a quote in it is cut short";
    Err(OptionError::value("cgroup_props", properties, reason))
}

pub(super) fn check_file(path: &Path) -> Result<(), OptionError> {
    let failed = |source| OptionError::Path {
        option: "cgroup_props_file",
        path: path.to_owned(),
        source,
    };
    let bytes = stasis_linux::file::read(path, LARGEST_FILE).map_err(failed)?;
    let text = str::from_utf8(&bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match parse(text) {
        Ok(_) => Ok(()),
        Err(at) => {
            let reason = "CRIU does not understand the file from here on";
            Err(OptionError::value("cgroup_props_file", at, reason))
        }
    }
}

/// The controllers, or the line that CRIU would not understand.
fn parse(text: &str) -> Result<CgroupProperties, &str> {
    let mut rest = Rest(text);
    let mut controllers = Vec::new();
    while !rest.0.is_empty() {
        let here = rest;
        match controller(&mut rest) {
            Some(controller) => controllers.push(controller),
            // Where it failed, unless that is the end.
            None => {
                let at = if rest.0.is_empty() { here } else { rest };
                return Err(at.0.lines().find(|line| !line.is_empty()).unwrap_or(at.0));
            }
        }
    }
    Ok(CgroupProperties(controllers))
}

fn controller(rest: &mut Rest<'_>) -> Option<Controller> {
    let name = rest.quoted()?.to_owned();
    rest.spaces();
    rest.exactly(":\n - ")?;
    rest.spaces();
    rest.exactly("\"strategy\":")?;
    rest.spaces();
    let strategy = match rest.quoted()? {
        "merge" => CgroupStrategy::Merge,
        "replace" => CgroupStrategy::Replace,
        _ => return None,
    };
    rest.spaces();
    rest.exactly("\n - ")?;
    rest.spaces();
    rest.exactly("\"properties\":")?;
    rest.spaces();
    rest.exactly("[")?;
    let mut properties = Vec::new();
    rest.spaces();
    if rest.exactly("]").is_none() {
        loop {
            rest.spaces();
            properties.push(rest.quoted()?.to_owned());
            rest.spaces();
            if rest.exactly(",").is_none() {
                rest.exactly("]")?;
                break;
            }
        }
    }
    rest.spaces();
    if !rest.0.is_empty() {
        rest.exactly("\n")?;
    }
    Some(Controller {
        name,
        strategy,
        properties,
    })
}

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn spaces(&mut self) {
        self.0 = self.0.trim_start_matches(' ');
    }

    fn exactly(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A name in quotes, which is not empty.
    fn quoted(&mut self) -> Option<&'a str> {
        let (name, rest) = self.0.strip_prefix('"')?.split_once('"')?;
        if name.is_empty() {
            return None;
        }
        self.0 = rest;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\"cpu\":\n - \"strategy\": \"replace\"\n - \"properties\": [\"cpu.shares\", \
                       \"cpu.cfs_period_us\"]\n\"freezer\":\n - \"strategy\": \"merge\"\n - \
                       \"properties\": [ ]";

    #[test]
    fn what_criu_documents_is_understood() {
        let properties: CgroupProperties = TWO.parse().unwrap();
        assert_eq!(properties.0.len(), 2);
        assert_eq!(properties.0[0].properties.len(), 2);
        assert_eq!(properties.0[1].strategy, CgroupStrategy::Merge);
        assert!(properties.0[1].properties.is_empty());
        let again: CgroupProperties = properties.to_string().parse().unwrap();
        assert_eq!(again, properties);
    }

    #[test]
    fn what_criu_would_fail_on_is_refused_with_the_line() {
        for (text, line) in [
            ("cpu", "cpu"),
            ("\"cpu\": \n - \"strategy\": \"merge\"", ": "),
            (&TWO.replace("replace", "add"), "\n - "),
            (&TWO.replace("[\"cpu", "\"cpu"), "\"cpu"),
            (&TWO.replace("[ ]", "["), ""),
            ("\"\":\n - \"strategy\": \"merge\"", "\"\":"),
        ] {
            let error = text.parse::<CgroupProperties>().unwrap_err();
            let OptionError::Value { option, value, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*option, "cgroup_props");
            assert!(
                value.starts_with(line.trim_start_matches('\n')),
                "{text:?}: {value:?}"
            );
        }
    }

    #[test]
    fn a_name_with_a_quote_is_refused() {
        let set = CgroupProperties::default();
        let set = set.controller("cpu", CgroupStrategy::Merge, ["a\", \"b"]);
        assert!(matches!(check(&set), Err(OptionError::Value { .. })));
    }

    #[test]
    fn a_file_is_read_by_the_same_rules() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("properties");
        assert!(matches!(check_file(&path), Err(OptionError::Path { .. })));
        std::fs::write(&path, TWO).unwrap();
        check_file(&path).unwrap();
        std::fs::write(&path, "cpu: all").unwrap();
        assert!(matches!(check_file(&path), Err(OptionError::Value { .. })));
    }
}

//! Where it was measured, and of what versions.

use std::{fs, thread};

use anyhow::{Context, Result};

use crate::command;

/// Programs, and how each is asked for its version.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd --version"),
    ("runc", "runc --version"),
    ("crun", "crun --version"),
    ("runsc", "runsc --version"),
    ("CRIU", "criu --version"),
];

/// One paragraph.
pub fn describe() -> Result<String> {
    let processor = field("/proc/cpuinfo", "model name")?;
    let memory: f64 = field("/proc/meminfo", "MemTotal")?
        .trim_end_matches(" kB")
        .parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let mut programs = Vec::new();
    for (name, line) in PROGRAMS {
        let answer = command::run(&mut command::line(line))?.ok()?.stdout;
        programs.push(format!("{name} {}", version(&answer)));
    }
    Ok(format!(
        "{} × {processor}, {:.0} GiB, Linux {}, cgroup version {}; load {load} at the beginning. {}.\n",
        thread::available_parallelism()?,
        memory / 1024.0 / 1024.0,
        version(&kernel),
        if fs::exists("/sys/fs/cgroup/cgroup.controllers")? {
            2
        } else {
            1
        },
        programs.join(", "),
    ))
}

/// The numbers in the first line, without what a distribution puts behind them.
fn version(answer: &str) -> &str {
    let numbers = answer.lines().next().unwrap_or_default().split_whitespace();
    let mut words = numbers.filter_map(|word| word.split(['+', '~', '-']).next());
    let numbered = |word: &&str| {
        let word = word.trim_start_matches('v');
        word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
    };
    // runsc that was built from its module says VERSION_MISSING.
    words.find(numbered).unwrap_or("as in `lab/versions`")
}

fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let (_, value) = line
        .and_then(|line| line.split_once(':'))
        .with_context(|| format!("{file} has no {name}"))?;
    Ok(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        let containerd = "containerd github.com/containerd/containerd/v2 2.1.9+unknown";
        assert_eq!(version(containerd), "2.1.9");
        assert_eq!(version("runc version 1.3.6+ds1\nspec: 1.2.1\n"), "1.3.6");
        let runsc = "runsc version VERSION_MISSING\nspec: 1.2.0\n";
        assert_eq!(version(runsc), "as in `lab/versions`");
        assert_eq!(version("Version: 4.2.1\n"), "4.2.1");
    }
}

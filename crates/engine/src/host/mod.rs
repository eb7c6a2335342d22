//! What a checkpoint image depends on outside the container: the kernel, the CPU and the build
//! of the runtime. The manifest records it.

mod build_id;

use std::fs::File;

use stasis_linux::file;

pub use build_id::build_id;

/// Far more than the first processor's entry ever takes.
const CPUINFO_CAP: u64 = 64 << 10;

/// The release of the running kernel, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The feature flags of the first processor in `/proc/cpuinfo`, sorted; none where the kernel
/// does not list any.
#[must_use]
pub fn cpu_features() -> Vec<String> {
    let read = File::open("/proc/cpuinfo").and_then(|cpuinfo| file::head(cpuinfo, CPUINFO_CAP));
    let cpuinfo = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read /proc/cpuinfo: the image will not name CPU features");
        Vec::new()
    });
    parse_features(&String::from_utf8_lossy(&cpuinfo))
}

fn parse_features(cpuinfo: &str) -> Vec<String> {
    // x86 calls them flags, arm64 Features.
    let line = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| matches!(name.trim(), "flags" | "Features"));
    let mut features: Vec<_> = line
        .map_or("", |(_, flags)| flags)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    features.sort_unstable();
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_of_the_first_processor_sorted() {
        let x86 =
            "processor\t: 0\nflags\t\t: fpu avx2 aes\nbugs\t: x\n\nprocessor : 1\nflags: none\n";
        assert_eq!(parse_features(x86), ["aes", "avx2", "fpu"]);
        assert_eq!(
            parse_features("processor : 0\nFeatures\t: fp asimd\n"),
            ["asimd", "fp"]
        );
        assert!(parse_features("").is_empty());
    }

    #[test]
    fn this_machine_has_a_kernel() {
        assert!(kernel_release().contains('.'), "{}", kernel_release());
    }
}

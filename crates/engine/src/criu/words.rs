//! What the options in a way out are called by whoever has containerd dump a container: by the
//! table `[checkpoint]` where we have the option, else by CRIU's configuration file.

use stasis_criu::{Diagnosis, options::config_key};

/// Why CRIU failed and the way out. A container has no command line of `stasis`.
pub(crate) fn told(diagnosis: &Diagnosis) -> String {
    diagnosis.in_words(&word)
}

/// The option that is called so in CRIU's RPC.
fn word(option: &'static str) -> String {
    let ours = match option {
        "tcp_established" | "ext_unix_sk" | "shell_job" | "file_locks" => option,
        "manage_cgroups" | "manage_cgroups_mode" => "cgroup_mode",
        "empty_ns" => "empty_namespaces",
        _ => {
            let key = config_key(option).unwrap_or(option);
            return format!("`{key}` in CRIU's configuration file (annotation org.criu.config)");
        }
    };
    format!("`{ours}` in [checkpoint] of config.toml")
}

#[cfg(test)]
mod tests {
    use stasis_criu::KnownCause;

    use super::*;
    use crate::options::CheckpointOptions;

    #[test]
    fn an_option_of_ours_has_our_name_and_another_that_of_crius_file() {
        assert_eq!(
            KnownCause::EstablishedTcp.remedy_in(&word),
            "set `tcp_established` in [checkpoint] of config.toml to keep them, or `tcp-close` in \
             CRIU's configuration file (annotation org.criu.config) to drop them"
        );
        let table = serde_json::to_value(CheckpointOptions::default()).expect("is written");
        for option in [
            "tcp_established",
            "ext_unix_sk",
            "shell_job",
            "file_locks",
            "empty_ns",
            "manage_cgroups",
        ] {
            let word = word(option);
            let name = word.split('`').nth(1).expect("a name");
            assert!(table.get(name).is_some(), "{word}");
        }
    }
}

//! The network rules with which CRIU keeps connections silent during a dump.
//!
//! In the namespace that CRIU itself is in, there is one rule for each direction of each
//! connection; a namespace of the processes' own is locked as a whole, by a chain. With nftables
//! it is one table, called after the run of CRIU. Source: `criu/netfilter.c` and `criu/net.c`,
//! CRIU 4.2.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::Pid;

use super::leftover::Leftover;
use stasis_linux::sys;

/// What packets of CRIU's own are marked with (`SOCCR_MARK`, `soccr/soccr.h`).
const MARK: &str = "0xC114";
/// A rule that is there more often than CRIU ever makes it.
const MOST: usize = 8;

/// The rules that a killed CRIU may have left.
#[derive(Debug, Default)]
pub(super) struct Lock {
    /// The network of the processes, if it is not this process's.
    pub network: Option<Network>,
    /// What CRIU called its run.
    pub run: Option<String>,
    /// The connections of the processes: their own address, and the other end's.
    pub connections: Vec<(SocketAddr, SocketAddr)>,
}

impl Lock {
    /// Removes them. Those that stay are returned.
    pub fn open(self) -> Vec<Leftover> {
        let rules = match self.network {
            Some(_) => whole_namespace(),
            None => self
                .connections
                .iter()
                .flat_map(|(own, other)| one_connection(own, other))
                .collect(),
        };
        let table = self.run.iter().map(|run| Rule::table(run));
        rules
            .into_iter()
            .chain(table)
            .filter_map(|rule| rule.remove(self.network.as_ref()))
            .collect()
    }
}

/// A network namespace that is not this process's.
#[derive(Debug)]
pub(super) struct Network {
    /// Its descriptor.
    pub namespace: Arc<OwnedFd>,
    /// A process in it.
    pub of: Pid,
}

/// One rule, or what else is there or is not.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    program: &'static str,
    /// Succeeds if it is there.
    check: Vec<String>,
    /// Removes it.
    delete: Vec<String>,
}

impl Rule {
    fn of_chain(program: &'static str, chain: &str, rule: &[String]) -> Self {
        let verb = |verb: &str| {
            let mut words = words(&["-w", "-t", "filter", verb, chain]);
            words.extend_from_slice(rule);
            words
        };
        Self {
            program,
            check: verb("-C"),
            delete: verb("-D"),
        }
    }

    fn table(run: &str) -> Self {
        let table = format!("CRIU-{run}");
        Self {
            program: "nft",
            check: words(&["list", "table", "inet", &table]),
            delete: words(&["delete", "table", "inet", &table]),
        }
    }

    /// Removes it, as often as it is there.
    fn remove(&self, network: Option<&Network>) -> Option<Leftover> {
        for _ in 0..MOST {
            // Without the program CRIU has made no such rule either.
            if !self.succeeds(&self.check, network) {
                return None;
            }
            if !self.succeeds(&self.delete, network) {
                break;
            }
        }
        let command = self.removal(network.map(|network| network.of));
        Some(Leftover::Rule { command })
    }

    /// The command that removes it, from the network of `process` if that is another.
    fn removal(&self, process: Option<Pid>) -> String {
        let within = process.map(|pid| format!("nsenter -t {} -n ", pid.as_raw_pid()));
        let within = within.unwrap_or_default();
        format!("{within}{} {}", self.program, self.delete.join(" "))
    }

    fn succeeds(&self, arguments: &[String], network: Option<&Network>) -> bool {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(network) = network {
            sys::enter_network(&mut command, Arc::clone(&network.namespace));
        }
        command.status().is_ok_and(|status| status.success())
    }
}

fn one_connection(own: &SocketAddr, other: &SocketAddr) -> Vec<Rule> {
    // CRIU locks a mapped address as what it maps.
    let (own, other) = (unmapped(own), unmapped(other));
    let program = if other.is_ipv4() {
        "iptables"
    } else {
        "ip6tables"
    };
    let rule = |from: &SocketAddr, to: &SocketAddr| {
        words(&[
            "--protocol",
            "tcp",
            "-m",
            "mark",
            "!",
            "--mark",
            MARK,
            "--source",
            &from.ip().to_string(),
            "--sport",
            &from.port().to_string(),
            "--destination",
            &to.ip().to_string(),
            "--dport",
            &to.port().to_string(),
            "-j",
            "DROP",
        ])
    };
    vec![
        Rule::of_chain(program, "INPUT", &rule(&other, &own)),
        Rule::of_chain(program, "OUTPUT", &rule(&own, &other)),
    ]
}

fn whole_namespace() -> Vec<Rule> {
    let jump = words(&["-j", "CRIU"]);
    let chain = |verb: &str| words(&["-w", "-t", "filter", verb, "CRIU"]);
    ["iptables", "ip6tables"]
        .into_iter()
        .flat_map(|program| {
            let with = |check: &str, delete: &str| Rule {
                program,
                check: chain(check),
                delete: chain(delete),
            };
            let drop = Rule::of_chain(program, "CRIU", &words(&["-j", "DROP"]));
            let accept = words(&["-m", "mark", "--mark", MARK, "-j", "ACCEPT"]);
            let accept = Rule::of_chain(program, "CRIU", &accept);
            [
                Rule::of_chain(program, "INPUT", &jump),
                Rule::of_chain(program, "OUTPUT", &jump),
                drop,
                accept,
                with("-L", "-X"),
            ]
        })
        .collect()
}

fn unmapped(address: &SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| String::from(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_removes_a_rule_finds_the_network_that_it_is_in() {
        let rule = Rule::table("7-a");
        let here = "nft delete table inet CRIU-7-a";
        assert_eq!(rule.removal(None), here);
        let there = rule.removal(Pid::from_raw(4711));
        assert_eq!(there, format!("nsenter -t 4711 -n {here}"));
    }

    #[test]
    fn the_rules_of_a_connection_are_those_that_criu_makes() {
        let own = "127.0.0.1:80".parse().unwrap();
        let other = "[::ffff:10.0.0.1]:4711".parse().unwrap();
        let [input, output] = <[Rule; 2]>::try_from(one_connection(&own, &other)).unwrap();
        // criu/netfilter.c, IPTABLES_CONN_CMD.
        let rule = "-m mark ! --mark 0xC114 --source 10.0.0.1 --sport 4711 --destination 127.0.0.1 --dport 80 -j DROP";
        let expected = format!("-w -t filter -D INPUT --protocol tcp {rule}");
        assert_eq!(
            (input.program, input.delete.join(" ")),
            ("iptables", expected)
        );
        let rule = "-m mark ! --mark 0xC114 --source 127.0.0.1 --sport 80 --destination 10.0.0.1 --dport 4711 -j DROP";
        let expected = format!("-w -t filter -C OUTPUT --protocol tcp {rule}");
        assert_eq!(output.check.join(" "), expected);
    }
}

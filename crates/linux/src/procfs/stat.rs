//! `/proc/PID/stat`: one line of numbers around a name that may contain anything.

use crate::lines::text;

/// What is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: u32,
    /// R, S, D, T, t, Z, X, I ...
    pub state: u8,
    /// The number of its parent.
    pub parent: u32,
    /// The number of its process group; zero where its leader is in none of our PID namespaces.
    pub group: u32,
    /// Zero where the leader of the session is in none of our PID namespaces.
    pub session: u32,
    /// The device of the controlling terminal, as the kernel packs it; zero for none.
    pub terminal: u32,
    /// The kernel's flags of it (`PF_*`, `include/linux/sched.h`).
    flags: u32,
    /// When it started, in ticks of a hundredth of a second since the machine did.
    pub started: u64,
}

impl Stat {
    /// Understands the line, if it is one.
    pub fn parse(line: &[u8]) -> Option<Self> {
        // The name is the process's own choice, parentheses and blanks included: only its last
        // parenthesis counts.
        let opened = line.iter().position(|&byte| byte == b'(')?;
        let closed = line.iter().rposition(|&byte| byte == b')')?;
        let pid = text(line.get(..opened)?)?;
        let mut words = line
            .get(closed + 1..)?
            .split(|&byte| byte == b' ' || byte == b'\n')
            .filter(|word| !word.is_empty());
        let &[state] = words.next()? else { return None };
        let mut id = || -> Option<u32> {
            // A group or session outside our namespace is 0, and -1 for what has none.
            let number = text::<i64>(words.next()?)?;
            Some(u32::try_from(number).unwrap_or(0))
        };
        let (parent, group, session, terminal) = (id()?, id()?, id()?, id()?);
        // From the eighth field, tpgid, to the ninth, and to the twenty-second.
        let flags = text(words.nth(1)?)?;
        let started = text(words.nth(12)?)?;
        Some(Self {
            pid,
            state,
            parent,
            group,
            session,
            terminal,
            flags,
            started,
        })
    }

    /// Does it exit, or is it a zombie?
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 0x4;
        self.flags & PF_EXITING != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLEEP: &[u8] = b"24467 (sleep) S 24426 24423 23846 34816 24467 4194304 12 0 0 0 0 0 0 0 \
        20 0 1 0 668305 430080 35 18446744073709551615 94354130415616 94354130433545 \
        140721526395088 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94354130447632 94354130448896 \
        94354344480768 140721526401309 140721526401318 140721526401318 140721526403049 0\n";

    #[test]
    fn what_is_used_is_found() {
        assert_eq!(
            Stat::parse(SLEEP).unwrap(),
            Stat {
                pid: 24467,
                state: b'S',
                parent: 24426,
                group: 24423,
                session: 23846,
                terminal: 0x8800,
                flags: 0x40_0000,
                started: 668_305,
            }
        );
    }

    #[test]
    fn who_exits_is_found_by_its_flags() {
        let of = |flags| {
            let text = String::from_utf8_lossy(SLEEP).replace("4194304", flags);
            Stat::parse(text.as_bytes()).unwrap().is_exiting()
        };
        assert!(!of("4194304"));
        assert!(of("4194308"));
    }

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let text = String::from_utf8_lossy(SLEEP).replace("(sleep)", "(a) R 1 1 (1)");
        assert_eq!(Stat::parse(text.as_bytes()), Stat::parse(SLEEP));
    }

    #[test]
    fn a_line_cut_short_is_no_stat() {
        for end in 0..SLEEP.len() {
            if let Some(stat) = Stat::parse(&SLEEP[..end]) {
                // Cut behind the twenty-second field, or within its digits.
                assert!(
                    668_305_u64
                        .to_string()
                        .starts_with(&stat.started.to_string())
                );
            }
        }
    }
}

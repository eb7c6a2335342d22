//! A victim's memory, which the tests change and compare as a debugger would. To the kernel's
//! tracking this is as if the victim did it: the same faults on the same pages.

use std::{fs, ops::Range, os::unix::fs::FileExt};

/// The size of a page.
const PAGE: usize = 4096;

/// The largest private mapping of a process that has no name: where a victim has its numbers.
pub struct Memory {
    pid: u32,
    range: Range<u64>,
}

impl Memory {
    pub fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let anonymous = maps.lines().filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let &[range, "rw-p", "00000000", "00:00", "0"] = fields.as_slice() else {
                return None;
            };
            let (start, end) = range.split_once('-').unwrap();
            let number = |hex| u64::from_str_radix(hex, 16).unwrap();
            Some(number(start)..number(end))
        });
        let range = anonymous
            .max_by_key(|range| range.end - range.start)
            .unwrap();
        Self { pid, range }
    }

    pub fn pages(&self) -> usize {
        self.len() / PAGE
    }

    fn len(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap()
    }

    /// All of it.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let file = fs::File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        file.read_exact_at(&mut bytes, self.range.start).unwrap();
        bytes
    }

    /// Writes `byte` all over `count` pages from the page `first` on.
    pub fn fill(&self, first: usize, count: usize, byte: u8) {
        assert!(first + count <= self.pages());
        let bytes = vec![byte; count * PAGE];
        let at = self.range.start + (first * PAGE) as u64;
        let file = fs::File::options()
            .write(true)
            .open(format!("/proc/{}/mem", self.pid))
            .unwrap();
        file.write_all_at(&bytes, at).unwrap();
    }
}

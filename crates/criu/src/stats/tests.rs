//! Statistics as CRIU writes them, and files that are none.

use std::{fs, os::fd::AsFd as _, os::unix::fs::symlink};

use prost::Message as _;

use super::*;

fn dump() -> StatsEntry {
    StatsEntry {
        dump: Some(DumpStatsEntry {
            freezing_time: 92,
            frozen_time: 1_500_000,
            memdump_time: 3,
            memwrite_time: 4,
            pages_scanned: 1_000,
            pages_skipped_parent: 10,
            pages_written: 900,
            irmap_resolve: Some(0),
            pages_lazy: 90,
            shpages_scanned: Some(7),
            shpages_skipped_parent: Some(2),
            shpages_written: Some(5),
            ..DumpStatsEntry::default()
        }),
        restore: None,
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let size = u32::try_from(message.len()).unwrap();
    let mut bytes: Vec<u8> = [SERVICE, STATS, size]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    bytes.extend_from_slice(message);
    bytes
}

/// What is said of a `stats-dump` of these bytes.
fn refusal(bytes: &[u8]) -> StatsError {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join(DUMP), bytes).unwrap();
    DumpStats::read(scratch.path()).unwrap_err()
}

#[test]
fn a_dump_is_read_by_path_and_by_descriptor() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join(DUMP), framed(&dump().encode_to_vec())).unwrap();
    let stats = DumpStats::read(scratch.path()).unwrap();
    assert_eq!(stats.freezing, Duration::from_micros(92));
    assert_eq!(stats.frozen, Duration::from_millis(1_500));
    assert_eq!(stats.irmap_resolve, Some(Duration::ZERO));
    assert_eq!(stats.pages.written, 900);
    assert_eq!(stats.lazy_pages, 90);
    assert_eq!(stats.shared_pages.unwrap().written, 5);
    assert_eq!(stats.page_pipes, None);
    let directory = fs::File::open(scratch.path()).unwrap();
    assert_eq!(DumpStats::read(directory.as_fd()).unwrap(), stats);
}

#[test]
fn what_criu_wrote_is_read() {
    // A process with 1 MiB of memory, dumped and restored by CRIU 4.2.1.
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs");
    let dump = DumpStats::read(recorded.as_path()).unwrap();
    assert!(dump.frozen > dump.freezing, "{dump:?}");
    assert!(dump.pages.written > 0, "{dump:?}");
    let restore = RestoreStats::read(recorded.as_path()).unwrap();
    assert!(restore.restore > restore.forking, "{restore:?}");
    assert_eq!(restore.pages_restored, Some(dump.pages.written));
}

#[test]
fn a_link_is_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(
        scratch.path().join("elsewhere"),
        framed(&dump().encode_to_vec()),
    )
    .unwrap();
    symlink("elsewhere", scratch.path().join(DUMP)).unwrap();
    let error = DumpStats::read(scratch.path()).unwrap_err();
    assert!(matches!(error, StatsError::Open { .. }), "{error}");
}

#[test]
fn every_cut_of_a_file_is_named() {
    let whole = framed(&dump().encode_to_vec());
    for length in 0..whole.len() {
        let error = refusal(&whole[..length]);
        assert!(
            matches!(error, StatsError::CutShort { length: found, .. } if found == length),
            "{length}: {error}"
        );
    }
}

#[test]
fn an_image_is_no_file_of_statistics() {
    let mut bytes = framed(&[]);
    bytes[..4].copy_from_slice(&0x5456_4319_u32.to_le_bytes());
    assert_eq!(
        refusal(&bytes).to_string(),
        "stats-dump is no file of statistics: its magic numbers are 0x54564319 and 0x57093306"
    );
}

#[test]
fn a_missing_number_is_named() {
    // A dump that has only its first number: field 1, one byte 5.
    let error = refusal(&framed(&[0x0a, 0x02, 0x08, 0x05]));
    let StatsError::Malformed { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        source.to_string(),
        "criu.stats.dump_stats_entry has no frozen_time"
    );
}

#[test]
fn statistics_of_something_else_are_refused() {
    let error = refusal(&framed(&[]));
    assert!(matches!(error, StatsError::Kind { .. }), "{error}");
}

#[test]
fn neither_long_files_nor_long_messages_are_taken() {
    let long = vec![0; 5_000];
    assert!(matches!(refusal(&long), StatsError::TooLong { .. }));
    let mut bytes = framed(&dump().encode_to_vec());
    bytes.push(0);
    assert!(matches!(
        refusal(&bytes),
        StatsError::Surplus { surplus: 1, .. }
    ));
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refusal(&bytes), StatsError::CutShort { .. }));
}

#[test]
fn what_counts_on_is_told_apart_from_what_does_not() {
    let first = DumpStats::from(dump().dump.unwrap());
    let mut second = first;
    second.frozen += Duration::from_micros(5);
    second.pages.written += 7;
    let since = second.since(&first).unwrap();
    assert_eq!(since.frozen, Duration::from_micros(5));
    assert_eq!(since.pages.written, 7);
    assert_eq!(since.pages.scanned, 0);
    assert_eq!(since.shared_pages.unwrap().written, 0);
    assert_eq!(since.irmap_resolve, Some(Duration::ZERO));
    assert_eq!(since.page_pipes, None);
    second.pages.skipped_parent -= 1;
    assert_eq!(second.since(&first), None);
}

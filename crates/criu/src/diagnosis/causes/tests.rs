//! The table of known causes, without what CRIU wrote.

use super::*;
use crate::options::table;

#[test]
fn every_cause_has_its_own_row() {
    assert_eq!(ROWS.len(), KnownCause::ALL.len());
    for (row, cause) in ROWS.iter().zip(KnownCause::ALL) {
        assert_eq!(row.cause, *cause);
        assert_eq!(cause.row().means, row.means);
    }
}

#[test]
fn meanings_and_ways_out_read_in_one_sentence() {
    for row in ROWS {
        assert!(!row.says.is_empty(), "{:?}", row.cause);
        for text in [row.means, row.remedy] {
            assert!(!text.ends_with('.') && !text.contains("  "), "{text}");
        }
    }
}

#[test]
fn a_way_out_has_its_options_in_the_words_of_its_reader() {
    let word = |option: &str| format!("--{}", option.replace('_', "-"));
    assert_eq!(
        KnownCause::EstablishedTcp.remedy_in(&word),
        "set --tcp-established to keep them, or --tcp-close to drop them"
    );
}

#[test]
fn ways_out_name_options_that_there_are() {
    for cause in KnownCause::ALL {
        for option in cause.row().remedy.split('`').skip(1).step_by(2) {
            let known = table().any(|row| row.name == option);
            assert!(known, "{cause:?} names {option}");
        }
    }
}

#[test]
fn parts_of_a_pattern_come_in_their_order() {
    assert!(matches("a*c", "xabcx"));
    assert!(!matches("c*a", "abc"));
    assert!(matches("whole", "the whole"));
}

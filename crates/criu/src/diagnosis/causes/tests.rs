//! The table of known causes, without what CRIU wrote.

use super::*;

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
fn parts_of_a_pattern_come_in_their_order() {
    assert!(matches("a*c", "xabcx"));
    assert!(!matches("c*a", "abc"));
    assert!(matches("whole", "the whole"));
}

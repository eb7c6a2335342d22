//! A table of the kernel, line by line, in constant memory, and what its words stand for.

use std::{
    ffi::OsString,
    io::{self, BufRead, Read},
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

/// The longest line that is taken: a mount with its options and an overlay's many layers.
const LINE: u64 = 256 << 10;

/// Gives every line, without its end, to `each`. A longer line than any that Linux writes is an
/// error.
pub fn each_line(
    mut table: impl BufRead,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut table).take(LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read as u64 == LINE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        each(&line)?;
    }
}

/// A number or another word in ASCII.
pub(crate) fn text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// A path as the kernel writes it in a table: blanks, line ends and backslashes in octal.
pub(crate) fn unescape(word: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        path.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_last_line_needs_no_end() {
        let mut lines = Vec::new();
        each_line(&b"one\n\nthree"[..], |line| {
            lines.push(line.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(lines, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let error = each_line(io::BufReader::new(io::repeat(b'x')), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\011c\134d"), Path::new("/a b\tc\\d"));
        assert_eq!(unescape(br"/a\4"), Path::new(r"/a\4"));
        assert_eq!(unescape(br"/\777"), Path::new(r"/\777"));
    }
}

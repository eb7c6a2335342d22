//! A table of the kernel, line by line, in constant memory.

use std::io::{self, BufRead, Read};

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

#[cfg(test)]
mod tests {
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
}

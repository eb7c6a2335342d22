//! Reads the build id of a program out of its ELF notes.
//!
//! A version does not tell two builds apart: every runsc that is built as a Go module calls
//! itself `VERSION_MISSING`. Linkers write the note `GNU` of type 3 (`NT_GNU_BUILD_ID`), Go's
//! own one `Go` of type 4 instead (`cmd/internal/buildid`); both are in segments of type
//! `PT_NOTE`. Only 64-bit files of this machine's byte order are understood: it can run no other.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// No linker writes so many segments, or notes so long.
const SEGMENTS_CAP: u16 = 128;
const NOTES_CAP: u64 = 64 << 10;

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const NT_GO_BUILD_ID: u32 = 4;

/// The build id of the program at `path`: GNU's in hexadecimal, else Go's as it is. `None` for
/// what is no ELF file, a script for instance, or has neither.
///
/// # Errors
/// If the file cannot be read.
pub fn build_id(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut found = Found::default();
    for (offset, length) in notes(&mut file, &header)? {
        found.search(&read(&mut file, offset, length.min(NOTES_CAP))?);
    }
    Ok(found.gnu.or(found.go))
}

/// Where the note segments are: offset and length.
fn notes(file: &mut File, header: &[u8; HEADER]) -> io::Result<Vec<(u64, u64)>> {
    const CLASS_64: u8 = 2;
    const NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };
    let described = header.starts_with(b"\x7fELF") && header[4] == CLASS_64 && header[5] == NATIVE;
    let (Some(table), Some(size), Some(count)) =
        (long(header, 32), short(header, 54), short(header, 56))
    else {
        return Ok(Vec::new());
    };
    if !described || usize::from(size) != SEGMENT || count > SEGMENTS_CAP {
        return Ok(Vec::new());
    }
    let segments = read(file, table, u64::from(count) * SEGMENT as u64)?;
    let note = |segment: &[u8]| {
        (word(segment, 0)? == PT_NOTE).then_some((long(segment, 8)?, long(segment, 32)?))
    };
    Ok(segments.chunks_exact(SEGMENT).filter_map(note).collect())
}

/// What there is of `length` bytes from `offset` on.
fn read(file: &mut File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // An offset behind the end is a lie of the header, and so far behind it an error to read at.
    if offset < file.metadata()?.len() {
        file.seek(SeekFrom::Start(offset))?;
        file.take(length).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[derive(Debug, Default)]
struct Found {
    gnu: Option<String>,
    go: Option<String>,
}

impl Found {
    fn search(&mut self, mut notes: &[u8]) {
        while let Some((note, rest)) = Note::split(notes) {
            let content = note.content;
            match (note.name, note.kind) {
                (b"GNU", NT_GNU_BUILD_ID) => {
                    self.gnu = Some(content.iter().map(|byte| format!("{byte:02x}")).collect());
                }
                (b"Go", NT_GO_BUILD_ID) => {
                    self.go = Some(String::from_utf8_lossy(content).into_owned());
                }
                _ => {}
            }
            notes = rest;
        }
    }
}

struct Note<'a> {
    kind: u32,
    /// Without its padding.
    name: &'a [u8],
    content: &'a [u8],
}

impl<'a> Note<'a> {
    /// The first note, and what follows it.
    fn split(notes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let name_length = usize::try_from(word(notes, 0)?).ok()?;
        let length = usize::try_from(word(notes, 4)?).ok()?;
        let kind = word(notes, 8)?;
        let rest = &notes[12..];
        let name = rest.get(..name_length)?.split(|&byte| byte == 0).next()?;
        let rest = rest.get(name_length.checked_next_multiple_of(4)?..)?;
        let content = rest.get(..length)?;
        // The last note's padding may be missing.
        let rest = rest
            .get(length.checked_next_multiple_of(4)?..)
            .unwrap_or_default();
        Some((
            Self {
                kind,
                name,
                content,
            },
            rest,
        ))
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn note(kind: u32, name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for length in [name.len(), content.len()] {
            note.extend(u32::try_from(length).expect("is short").to_ne_bytes());
        }
        note.extend(kind.to_ne_bytes());
        for part in [name, content] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// An ELF file with one segment, of notes.
    fn elf(notes: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02".to_vec();
        file.push(if cfg!(target_endian = "little") { 1 } else { 2 });
        file.resize(HEADER + SEGMENT, 0);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(32, &(HEADER as u64).to_ne_bytes());
        put(54, &56_u16.to_ne_bytes());
        put(56, &1_u16.to_ne_bytes());
        put(HEADER, &PT_NOTE.to_ne_bytes());
        put(HEADER + 8, &((HEADER + SEGMENT) as u64).to_ne_bytes());
        put(HEADER + 32, &(notes.len() as u64).to_ne_bytes());
        file.extend(notes);
        file
    }

    fn id_of(content: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), content).expect("is written");
        build_id(file.path()).expect("is read")
    }

    #[test]
    fn gnus_id_is_preferred_to_gos() {
        let go = note(NT_GO_BUILD_ID, b"Go\0\0", b"abc/def");
        assert_eq!(id_of(&elf(&go)).as_deref(), Some("abc/def"));
        let both = [go, note(NT_GNU_BUILD_ID, b"GNU\0", &[0x0a, 0xff])].concat();
        assert_eq!(id_of(&elf(&both)).as_deref(), Some("0aff"));
    }

    #[test]
    fn other_files_have_none() {
        let other = elf(&note(1, b"GNU\0", b"abi"));
        for content in [b"#!/bin/sh\n".as_slice(), b"", &[0; 500], &other] {
            assert_eq!(id_of(content), None);
        }
    }

    #[test]
    fn no_cut_or_lie_in_the_file_does_harm() {
        let whole = elf(&note(NT_GNU_BUILD_ID, b"GNU\0", &[1; 20]));
        for end in 0..whole.len() {
            assert_eq!(id_of(&whole[..end]), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut lie = whole.clone();
            lie[at] = 0xff;
            id_of(&lie);
        }
    }

    #[test]
    fn this_test_has_the_id_that_its_linker_wrote_or_none() {
        let id = build_id(Path::new("/proc/self/exe")).expect("is read");
        assert!(id.is_none_or(|id| id.len() >= 16), "is no build id");
    }
}

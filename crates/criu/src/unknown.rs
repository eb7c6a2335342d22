//! The fields of a message that our schema does not have.
//!
//! A newer CRIU, or a fork, sends fields and takes options that are not in `proto/rpc.proto`.
//! prost drops them; here they are kept beside the decoded message, each with its place, and put
//! back where a message is encoded. Also here, since prost does not: a required field that is not
//! there is an error.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>.

use prost::DecodeError;
use thiserror::Error;

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

/// Nested deeper than CRIU's messages ever are.
const MAX_DEPTH: usize = 8;

/// A message of the schema.
struct Message {
    name: &'static str,
    fields: &'static [Field],
}

/// One of its fields.
struct Field {
    number: u32,
    name: &'static str,
    required: bool,
    /// The type, if it is a message.
    message: Option<&'static str>,
}

/// Fields that the schema does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownFields(Vec<UnknownField>);

/// A field that the schema does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The numbers of the fields that lead to the message that it is in; none for the outermost.
    pub path: Vec<u32>,
    /// Its number.
    pub number: u32,
    /// Its key and value as they are on the wire.
    pub bytes: Vec<u8>,
}

/// Why bytes are not the message that they should be.
#[derive(Debug, Error)]
pub enum MalformedMessage {
    /// They are no protobuf message, or fields have other types.
    #[error("{message} cannot be decoded")]
    Undecodable {
        /// The message's type.
        message: &'static str,
        /// What prost says.
        source: DecodeError,
    },
    /// It ends in the middle of a field.
    #[error("{message} is cut short after {whole} whole fields")]
    CutShort {
        /// The message's type.
        message: &'static str,
        /// How many fields came whole.
        whole: usize,
    },
    /// A field that has to be there is not.
    #[error("{message} has no {field}")]
    Missing {
        /// The message's type.
        message: &'static str,
        /// The field's name.
        field: &'static str,
    },
}

impl UnknownFields {
    /// Each of them, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = &UnknownField> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field to the message that `path` leads to. `value` is a message of its own whose
    /// only field it is.
    pub fn push(&mut self, path: &[u32], number: u32, bytes: Vec<u8>) {
        self.0.push(UnknownField {
            path: path.to_vec(),
            number,
            bytes,
        });
    }
}

/// Decodes `bytes` as message `name`, which is `T`, and keeps what `T` has no place for.
pub(crate) fn decode<T: prost::Message + Default>(
    name: &'static str,
    bytes: &[u8],
) -> Result<(T, UnknownFields), MalformedMessage> {
    let mut unknown = UnknownFields::default();
    walk(schema(name), bytes, &mut Vec::new(), &mut unknown)?;
    let message = T::decode(bytes).map_err(|source| MalformedMessage::Undecodable {
        message: name,
        source,
    })?;
    Ok((message, unknown))
}

/// Encodes `message`, and what it has no place for in the places where it belongs.
pub(crate) fn encode<T: prost::Message>(message: &T, unknown: &UnknownFields) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    if unknown.is_empty() {
        return bytes;
    }
    let fields: Vec<_> = unknown
        .iter()
        .map(|field| (field.path.as_slice(), field.bytes.as_slice()))
        .collect();
    splice(&bytes, &fields)
}

fn schema(name: &'static str) -> &'static Message {
    const UNKNOWN: &Message = &Message {
        name: "an unknown message",
        fields: &[],
    };
    MESSAGES
        .iter()
        .find(|message| message.name == name)
        .unwrap_or(UNKNOWN)
}

fn walk(
    message: &'static Message,
    bytes: &[u8],
    path: &mut Vec<u32>,
    unknown: &mut UnknownFields,
) -> Result<(), MalformedMessage> {
    let mut rest = bytes;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let record = Record::next(rest).ok_or(MalformedMessage::CutShort {
            message: message.name,
            whole: seen.len(),
        })?;
        let known = message.fields.iter().find(|f| f.number == record.number);
        match (known, known.and_then(|field| field.message), record.value) {
            (None, ..) => unknown.push(path, record.number, record.bytes.to_vec()),
            (Some(_), Some(inner), Some(value)) if path.len() < MAX_DEPTH => {
                path.push(record.number);
                walk(schema(inner), value, path, unknown)?;
                path.pop();
            }
            (Some(_), ..) => {}
        }
        seen.push(record.number);
        rest = &rest[record.bytes.len()..];
    }
    match message
        .fields
        .iter()
        .find(|field| field.required && !seen.contains(&field.number))
    {
        Some(field) => Err(MalformedMessage::Missing {
            message: message.name,
            field: field.name,
        }),
        None => Ok(()),
    }
}

/// `bytes` with `fields` put where their paths lead: at the end of the last record on the path,
/// which a repeated message may have several of.
fn splice(bytes: &[u8], fields: &[(&[u32], &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    let mut records = Vec::new();
    while let Some(record) = Record::next(rest) {
        rest = &rest[record.bytes.len()..];
        records.push(record);
    }
    let last = |number| records.iter().rposition(|record| record.number == number);
    let mut placed = vec![false; fields.len()];
    for (index, record) in records.iter().enumerate() {
        let inner: Vec<_> = fields
            .iter()
            .enumerate()
            .filter(|(_, (path, _))| path.first() == Some(&record.number))
            .filter(|_| last(record.number) == Some(index))
            .map(|(at, (path, bytes))| {
                placed[at] = true;
                (&path[1..], *bytes)
            })
            .collect();
        match record.value {
            Some(value) if !inner.is_empty() => {
                put_message(&mut out, record.number, &splice(value, &inner));
            }
            _ => out.extend_from_slice(record.bytes),
        }
    }
    for ((path, bytes), placed) in fields.iter().zip(placed) {
        if placed {
            continue;
        }
        // The message that it is in is not there: made for it.
        match path.split_first() {
            None => out.extend_from_slice(bytes),
            Some((number, path)) => put_message(&mut out, *number, &splice(&[], &[(path, *bytes)])),
        }
    }
    out
}

fn put_message(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// One field on the wire.
struct Record<'a> {
    number: u32,
    /// Key and value.
    bytes: &'a [u8],
    /// The value, if it has a length of its own: a string, bytes or a message.
    value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// The record that `bytes` begin with. `None` if they end before it does, or are none.
    fn next(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let key = take_varint(&mut rest)?;
        let number = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => take_varint(&mut rest).map(|_| None)?,
            1 => take(&mut rest, 8).map(|_| None)?,
            2 => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Some(take(&mut rest, length)?)
            }
            5 => take(&mut rest, 4).map(|_| None)?,
            // Groups, which CRIU's messages do not use, and numbers that mean nothing.
            _ => return None,
        };
        Some(Self {
            number,
            bytes: &bytes[..bytes.len() - rest.len()],
            value,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp};

    const RESPONSE: &str = "criu.criu_resp";

    fn response() -> CriuResp {
        CriuResp {
            r#type: CriuReqType::Restore as i32,
            success: true,
            restore: Some(CriuRestoreResp { pid: 7 }),
            ..CriuResp::default()
        }
    }

    /// Field `number`, a varint.
    fn varint(number: u32, value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::from(number) << 3);
        put_varint(&mut bytes, value);
        bytes
    }

    #[test]
    fn fields_of_a_newer_criu_survive_at_every_depth() {
        let mut added = UnknownFields::default();
        added.push(&[], 90, varint(90, 300));
        added.push(&[4], 9, varint(9, 1));
        let bytes = encode(&response(), &added);

        let (message, unknown) = decode::<CriuResp>(RESPONSE, &bytes).unwrap();
        assert_eq!(message, response());
        let mut found: Vec<_> = unknown.iter().cloned().collect();
        found.sort_by_key(|field| field.path.len());
        assert_eq!(found, added.0);
        assert_eq!(encode(&message, &unknown), bytes);
    }

    #[test]
    fn an_option_that_the_schema_has_not_reaches_the_message_that_it_is_for() {
        let request = CriuReq {
            r#type: CriuReqType::Dump as i32,
            opts: Some(CriuOpts::default()),
            ..CriuReq::default()
        };
        let mut unknown = UnknownFields::default();
        unknown.push(&[2], 72, varint(72, 1));
        let bytes = encode(&request, &unknown);
        let (decoded, found) = decode::<CriuReq>("criu.criu_req", &bytes).unwrap();
        assert_eq!(decoded, request);
        assert_eq!(found, unknown);
    }

    #[test]
    fn a_message_is_made_for_a_field_whose_message_is_not_there() {
        let mut unknown = UnknownFields::default();
        unknown.push(&[6], 90, varint(90, 1));
        let bytes = encode(&response(), &unknown);
        let (message, found) = decode::<CriuResp>(RESPONSE, &bytes).unwrap();
        assert!(message.ps.is_some());
        assert_eq!(found, unknown);
    }

    #[test]
    fn an_enum_value_of_a_newer_criu_survives() {
        let strange = CriuResp {
            r#type: 99,
            ..response()
        };
        let bytes = encode(&strange, &UnknownFields::default());
        assert_eq!(decode::<CriuResp>(RESPONSE, &bytes).unwrap().0, strange);
    }

    #[test]
    fn a_missing_required_field_is_named() {
        let error = decode::<CriuResp>(RESPONSE, &varint(1, 2)).unwrap_err();
        assert_eq!(error.to_string(), "criu.criu_resp has no success");
    }

    #[test]
    fn every_cut_of_a_message_is_an_error_and_never_another_message() {
        let bytes = encode(&response(), &UnknownFields::default());
        for end in 0..bytes.len() {
            let cut = decode::<CriuResp>(RESPONSE, &bytes[..end]);
            // Cut between fields, it may be a whole message that says less.
            if let Ok((message, _)) = cut {
                assert_eq!(message.restore, None);
            }
        }
        let error = decode::<CriuResp>(RESPONSE, &bytes[..bytes.len() - 1]).unwrap_err();
        assert!(
            matches!(error, MalformedMessage::CutShort { whole: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        for bytes in [
            &[0xff; 40][..],
            &[0x0b, 0x0c],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            decode::<CriuResp>(RESPONSE, bytes).unwrap_err();
        }
    }
}

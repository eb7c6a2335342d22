//! The fields of a message that our schema does not have.
//!
//! A newer CRIU, or a fork, sends fields that are not in `proto/rpc.proto`.
//! prost drops them; here they are kept beside the decoded message, each with its place. Also
//! here, since prost does not: a required field that is not there is an error.
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
            (None, ..) => unknown.0.push(UnknownField {
                path: path.clone(),
                number: record.number,
                bytes: record.bytes.to_vec(),
            }),
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
    use prost::Message as _;

    use super::*;
    use crate::rpc::{CriuReqType, CriuResp, CriuRestoreResp};

    const RESPONSE: &str = "criu.criu_resp";

    fn response() -> CriuResp {
        CriuResp {
            r#type: CriuReqType::Restore as i32,
            success: true,
            restore: Some(CriuRestoreResp { pid: 7 }),
            ..CriuResp::default()
        }
    }

    #[test]
    fn fields_of_a_newer_criu_survive_at_every_depth() {
        // Field 9 of field 4, which has 7 in its field 1; then field 90.
        let inner = [0x48, 1];
        let outer = [0xd0, 0x05, 0xac, 0x02];
        let mut bytes = response().encode_to_vec();
        let end = [0x22, 2, 8, 7];
        assert!(bytes.ends_with(&end), "{bytes:?}");
        bytes.truncate(bytes.len() - end.len());
        bytes.extend([0x22, 4, 8, 7]);
        bytes.extend(inner);
        bytes.extend(outer);

        let (message, unknown) = decode::<CriuResp>(RESPONSE, &bytes).unwrap();
        assert_eq!(message, response());
        let field = |path: &[u32], number, bytes: &[u8]| UnknownField {
            path: path.to_vec(),
            number,
            bytes: bytes.to_vec(),
        };
        let found = [field(&[4], 9, &inner), field(&[], 90, &outer)];
        assert_eq!(unknown.0, found);
    }

    #[test]
    fn an_enum_value_of_a_newer_criu_survives() {
        let strange = CriuResp {
            r#type: 99,
            ..response()
        };
        let bytes = strange.encode_to_vec();
        assert_eq!(decode::<CriuResp>(RESPONSE, &bytes).unwrap().0, strange);
    }

    #[test]
    fn a_missing_required_field_is_named() {
        let error = decode::<CriuResp>(RESPONSE, &[8, 2]).unwrap_err();
        assert_eq!(error.to_string(), "criu.criu_resp has no success");
    }

    #[test]
    fn every_cut_of_a_message_is_an_error_and_never_another_message() {
        let bytes = response().encode_to_vec();
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

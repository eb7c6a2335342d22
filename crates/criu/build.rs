//! Compiles the messages of CRIU's RPC without an installed `protoc`, and writes down which
//! fields each message has, for the fields that it does not have (`src/unknown.rs`).

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};

const PROTOS: [&str; 2] = ["proto/rpc.proto", "proto/stats.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    write_fields(&out.join("fields.rs"), &descriptors)?;
    prost_build::Config::new().compile_fds(descriptors)?;
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

/// The table `MESSAGES`: for each message its fields' numbers, names, presence and, for fields
/// that are messages, their type.
fn write_fields(path: &Path, descriptors: &FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let mut text = String::from("static MESSAGES: &[Message] = &[\n");
    for file in &descriptors.file {
        for message in &file.message_type {
            write_message(&mut text, file.package(), message)?;
        }
    }
    text.push_str("];\n");
    fs::write(path, text)?;
    Ok(())
}

fn write_message(
    text: &mut String,
    package: &str,
    message: &DescriptorProto,
) -> Result<(), Box<dyn Error>> {
    writeln!(
        text,
        "    Message {{ name: \"{package}.{}\", fields: &[",
        message.name()
    )?;
    for field in &message.field {
        let of = Some(field.type_name())
            .filter(|name| {
                field.r#type() == prost_types::field_descriptor_proto::Type::Message
                    && !name.is_empty()
            })
            .map(|name| name.trim_start_matches('.'));
        writeln!(
            text,
            "        Field {{ number: {}, name: \"{}\", required: {}, message: {of:?} }},",
            field.number(),
            field.name(),
            field.label() == Label::Required,
        )?;
    }
    text.push_str("    ] },\n");
    Ok(())
}

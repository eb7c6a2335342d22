//! Options as containerd packs them into requests.

use std::path::Path;

use containerd_shim_protos::protobuf::{
    CodedOutputStream, MessageFull, well_known_types::any::Any,
};

/// `runtimeoptions.v1.Options` with a configuration inline, as CRI sends it.
pub fn inline(config: &str) -> Any {
    runtime_options(3, config)
}

/// `runtimeoptions.v1.Options` that name a configuration file, as `ctr` sends them.
pub fn config_file(path: &Path) -> Any {
    runtime_options(2, &path.display().to_string())
}

/// Any message by its bare type name, as containerd packs them.
pub fn pack<M: MessageFull>(message: &M) -> Any {
    Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message
            .write_to_bytes()
            .expect("a message that is complete"),
        ..Any::default()
    }
}

/// The fields are `type_url` 1, `config_path` 2 and `config_body` 3 (runtimeoptions/v1/api.proto).
fn runtime_options(field: u32, text: &str) -> Any {
    let mut value = Vec::new();
    let mut stream = CodedOutputStream::vec(&mut value);
    stream
        .write_string(field, text)
        .and_then(|()| stream.flush())
        .expect("room in memory");
    drop(stream);
    Any {
        type_url: "runtimeoptions.v1.Options".into(),
        value,
        ..Any::default()
    }
}

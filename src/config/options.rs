//! The two types of runtime options that containerd sends, whatever the runtime's name.
//!
//! `containerd.runc.v1.Options` come from ctr, nerdctl and from handlers named
//! io.containerd.runc.v2; `runtimeoptions.v1.Options` from CRI for every other name, and from
//! `ctr run --runtime-config-path`. A CRI handler without a config_path gets its whole `options`
//! table as the inline body, with the key names of the former type: see [`super::file`].

use std::path::PathBuf;

use containerd_shim::{
    bootstrap::any_is,
    protos::{
        protobuf::{Message, well_known_types::any::Any},
        shim::oci,
    },
};

use super::error::Error;

#[allow(clippy::pedantic, missing_debug_implementations)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}

pub(super) use self::generated::runtimeoptions::Options as RuntimeOptions;
pub(super) use oci::Options as RuncOptions;

/// What the options of a request ask for.
#[derive(Debug, Default)]
pub(super) enum Request {
    /// Nothing.
    #[default]
    None,
    /// The configuration in this file.
    File(PathBuf),
    /// This configuration.
    Inline(String),
    /// These settings, beside the default file.
    Runc(Box<RuncOptions>),
}

impl Request {
    pub(super) fn decode(any: &Any) -> Result<Self, Error> {
        if any_is::<RuncOptions>(any) {
            let options = decode(any, "containerd.runc.v1.Options")?;
            return Ok(Self::Runc(Box::new(options)));
        }
        if any_is::<RuntimeOptions>(any) {
            return Self::of_runtime_options(decode(any, "runtimeoptions.v1.Options")?);
        }
        // An Any without a type is how some clients say that there are no options.
        if any.type_url.is_empty() && any.value.is_empty() {
            return Ok(Self::None);
        }
        Err(Error::UnknownType {
            type_url: any.type_url.clone(),
        })
    }

    fn of_runtime_options(options: RuntimeOptions) -> Result<Self, Error> {
        if !options.config_path.is_empty() {
            return Ok(Self::File(options.config_path.into()));
        }
        if options.config_body.is_empty() {
            return Ok(Self::None);
        }
        let body = String::from_utf8(options.config_body);
        body.map(Self::Inline)
            .map_err(|error| Error::BodyNotText(error.utf8_error()))
    }
}

/// Whether these are options of a type that we take.
pub(super) fn is_known(any: &Any) -> bool {
    any_is::<RuncOptions>(any) || any_is::<RuntimeOptions>(any)
}

fn decode<M: Message>(any: &Any, name: &'static str) -> Result<M, Error> {
    M::parse_from_bytes(&any.value).map_err(|source| Error::Decode { name, source })
}

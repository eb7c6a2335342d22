//! Makes ttrpc answer Unimplemented for services that are not registered.
//!
//! ttrpc 0.10 says InvalidArgument for an unknown service and Unimplemented for an unknown
//! method of a known one. Clients that probe a shim for the transfer, streaming or sandbox
//! service go on only after the latter. So a request for an unknown service is re-addressed to
//! [`NAME`], a registered service without methods, as the method `SERVICE/METHOD`; what comes
//! back is Unimplemented and names both.

use std::collections::HashMap;

use containerd_shim::protos::{
    protobuf::Message,
    ttrpc::{asynchronous::Service, proto::Request},
};

/// A service without methods. No client addresses it: `/` is in no protobuf name.
pub const NAME: &str = "stasis/unknown";

/// The services that have no implementation here, under one name: to be registered.
#[must_use]
pub fn service() -> HashMap<String, Service> {
    let nothing = Service {
        methods: HashMap::new(),
        streams: HashMap::new(),
    };
    HashMap::from([(NAME.to_owned(), nothing)])
}

/// The request to send in place of `request`, if it is for none of the services in `known`.
#[must_use]
pub fn readdress(request: &Request, known: &[&str]) -> Option<Vec<u8>> {
    if known.contains(&request.service.as_str()) {
        return None;
    }
    // The payload stays behind: nobody will read it.
    let readdressed = Request {
        service: NAME.to_owned(),
        method: format!("{}/{}", request.service, request.method),
        ..Request::default()
    };
    readdressed.write_to_bytes().ok()
}

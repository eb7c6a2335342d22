//! Where pages go instead of the images directory: page server, TLS, and word that it listens.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::{
    Options,
    check::{Context, there},
    dir::Descriptor,
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_SERVERS, Given, Key, Release, Row},
};
use crate::{request::Request, rpc::CriuPageServerInfo, setters::setters};

const READY_FOR: &[Request] = &[Request::Dump, Request::PageServer, Request::PageServerChild];
const TLS: Release = Release::new(3, 13, 0);

/// A row of a file that TLS needs.
macro_rules! tls_file {
    ($number:literal, $name:ident, $key:literal, $field:ident) => {
        Row {
            number: $number,
            name: stringify!($name),
            since: TLS,
            requests: DUMPS_AND_SERVERS,
            key: Key::Named($key),
            by: By::Setter {
                given: |o| Given::one(o.pages.tls.as_ref().and_then(|tls| tls.$field.as_ref())),
                put: |o, rpc| {
                    rpc.$name = o
                        .pages
                        .tls
                        .as_ref()
                        .and_then(|tls| tls.$field.as_ref())
                        .map(super::table::rendered);
                },
            },
        }
    };
}

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 11,
        name: "ps",
        since: Release::new(1, 2, 0),
        requests: DUMPS_AND_SERVERS,
        key: Key::Several(&["page-server", "address", "port"]),
        by: By::Descriptor { given },
    },
    Row {
        number: 58,
        name: "tls",
        since: TLS,
        requests: DUMPS_AND_SERVERS,
        key: Key::Named("tls"),
        by: By::Setter {
            given: |o| Given::on(o.pages.tls.is_some()),
            put: |_, rpc| rpc.tls = Some(true),
        },
    },
    tls_file!(54, tls_cacert, "tls-cacert", cacert),
    tls_file!(55, tls_cacrl, "tls-cacrl", cacrl),
    tls_file!(56, tls_cert, "tls-cert", cert),
    tls_file!(57, tls_key, "tls-key", key),
    Row {
        number: 59,
        name: "tls_no_cn_verify",
        since: TLS,
        requests: DUMPS_AND_SERVERS,
        key: Key::Named("tls-no-cn-verify"),
        by: By::Setter {
            given: |o| Given::on(o.pages.tls.as_ref().is_some_and(|tls| tls.no_cn_verify)),
            put: |_, rpc| rpc.tls_no_cn_verify = Some(true),
        },
    },
    Row {
        number: 49,
        name: "status_fd",
        since: Release::new(2, 11, 0),
        requests: READY_FOR,
        key: Key::None("it is a descriptor of the client"),
        by: By::Descriptor {
            given: |o| Given::descriptor(o.pages.status.is_some()),
        },
    },
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pages {
    pub(super) server: Option<PageServer>,
    pub(super) tls: Option<Tls>,
    pub(super) status: Option<Descriptor>,
}

/// Where pages go.
///
/// ```
/// use stasis_criu::{Options, options::{PageServer, Tls}};
///
/// let options = Options::new("/var/lib/images")
///     .page_server(PageServer::at("192.0.2.7".parse().unwrap(), 27))
///     .tls(Tls::default().cacert("/etc/criu/ca.pem"));
/// ```
impl Options {
    setters! {
        /// The page server that a dump sends pages to, or where a page server listens, `ps`.
        pub fn page_server(mut self, server: PageServer) { self.pages.server = Some(server); }

        /// Pages go over TLS, `tls` and what belongs to it.
        pub fn tls(mut self, tls: Tls) { self.pages.tls = Some(tls); }

        /// Where CRIU writes one byte once its page server listens, `status_fd`. The hook
        /// `status-ready` says the same, and does not draw CRIU's warning.
        pub fn status_fd(mut self, fd: impl Into<Descriptor>) {
            self.pages.status = Some(fd.into());
        }
    }
}

/// What the client has to know of it.
impl Options {
    /// The page server that a dump sends to, if it is named by its address.
    pub(crate) fn page_server_of(&self, request: Request) -> Option<SocketAddr> {
        match self.pages.server {
            Some(PageServer::Address {
                address: Some(address),
                port,
            }) if DUMPS.contains(&request) && !self.memory.lazy_pages => {
                Some((address, port).into())
            }
            _ => None,
        }
    }

    pub(crate) fn has_page_server(&self) -> bool {
        self.pages.server.is_some()
    }

    /// The port at which a lazy dump listens.
    pub(crate) fn pages_port(&self) -> Option<u16> {
        match self.pages.server {
            Some(PageServer::Address { port, .. }) => Some(port).filter(|port| *port != 0),
            Some(PageServer::Descriptor(_)) | None => None,
        }
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.pages.tls.is_some()
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.memory.lazy_pages
    }

    pub(crate) fn has_config_file(&self) -> bool {
        self.images.config.is_some()
    }
}

/// The other end of a transfer of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageServer {
    /// An address and a port.
    Address {
        /// Where the page server is, or which of its addresses it listens at: all if `None`.
        address: Option<IpAddr>,
        /// The port; a page server that is given 0 chooses one and says which.
        port: u16,
    },
    /// A connected stream socket, which `criu` inherits.
    Descriptor(Descriptor),
}

impl PageServer {
    /// The page server at this address and port.
    #[must_use]
    pub fn at(address: IpAddr, port: u16) -> Self {
        Self::Address {
            address: Some(address),
            port,
        }
    }

    /// A page server that listens at this port of all addresses.
    #[must_use]
    pub fn listening(port: u16) -> Self {
        Self::Address {
            address: None,
            port,
        }
    }

    /// The page server at the other end of this connected socket.
    #[must_use]
    pub fn connected(socket: impl Into<Descriptor>) -> Self {
        Self::Descriptor(socket.into())
    }

    pub(super) fn wire(&self, inherited_as: impl FnOnce(&Descriptor) -> i32) -> CriuPageServerInfo {
        match self {
            Self::Address { address, port } => CriuPageServerInfo {
                address: address.map(|address| address.to_string()),
                port: Some((*port).into()),
                ..CriuPageServerInfo::default()
            },
            Self::Descriptor(socket) => CriuPageServerInfo {
                fd: Some(inherited_as(socket)),
                ..CriuPageServerInfo::default()
            },
        }
    }
}

fn given(options: &Options) -> Given {
    match &options.pages.server {
        None => Given::No,
        Some(PageServer::Descriptor(_)) => Given::Descriptor,
        Some(PageServer::Address { address, port }) => {
            let mut pairs = Vec::new();
            // A message with `lazy_pages` keeps CRIU from being a page server's client; a file's
            // key would not.
            if !options.memory.lazy_pages {
                pairs.push(("page-server", None));
            }
            if let Some(address) = address {
                pairs.push(("address", Some(address.to_string().into())));
            }
            if *port != 0 {
                pairs.push(("port", Some(port.to_string().into())));
            }
            Given::Pairs(pairs)
        }
    }
}

/// How pages go over TLS. A file that is not named is looked for under `/etc/pki`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    cacert: Option<PathBuf>,
    cacrl: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    no_cn_verify: bool,
}

impl Tls {
    setters! {
        /// The authority that signed the other end's certificate, `tls_cacert`.
        pub fn cacert(mut self, file: impl Into<PathBuf>) { self.cacert = Some(file.into()); }

        /// The certificates that the authority has taken back, `tls_cacrl`.
        pub fn cacrl(mut self, file: impl Into<PathBuf>) { self.cacrl = Some(file.into()); }

        /// This end's certificate, `tls_cert`.
        pub fn cert(mut self, file: impl Into<PathBuf>) { self.cert = Some(file.into()); }

        /// This end's private key, `tls_key`.
        pub fn key(mut self, file: impl Into<PathBuf>) { self.key = Some(file.into()); }

        /// Takes any name in the other end's certificate, `tls_no_cn_verify`, not only its address.
        pub fn no_cn_verify(mut self, set: bool) { self.no_cn_verify = set; }
    }

    /// The same as arguments of a command.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("--tls")];
        for (flag, file) in [
            ("--tls-cacert", &self.cacert),
            ("--tls-cacrl", &self.cacrl),
            ("--tls-cert", &self.cert),
            ("--tls-key", &self.key),
        ] {
            if let Some(file) = file {
                arguments.extend([flag.into(), file.into()]);
            }
        }
        if self.no_cn_verify {
            arguments.push("--tls-no-cn-verify".into());
        }
        arguments
    }
}

pub(super) fn check(options: &Options, context: Context<'_>) -> Result<(), OptionError> {
    let pages = &options.pages;
    let lazy = options.memory.lazy_pages;
    let dumps = DUMPS.contains(&context.request);
    match &pages.server {
        Some(PageServer::Descriptor(_)) if lazy && dumps => {
            return Err(OptionError::Conflict {
                option: "ps",
                other: "lazy_pages",
                reason: "CRIU passes over the socket and listens at all addresses; give a port",
            });
        }
        Some(PageServer::Descriptor(_)) if pages.tls.is_some() && dumps => {
            return Err(OptionError::Conflict {
                option: "tls",
                other: "ps",
                reason: "CRIU sends pages in the clear over a socket that it inherits; give an \
                         address, or encrypt at the socket's other end",
            });
        }
        Some(PageServer::Address { address, .. })
            if lazy && address.is_some_and(|address| !address.is_unspecified()) =>
        {
            return Err(OptionError::Conflict {
                option: "ps",
                other: "lazy_pages",
                reason: "CRIU passes over the address and listens at all of them; give only the \
                         port, and TLS or a network namespace to keep others out",
            });
        }
        Some(PageServer::Address { address, port }) if dumps && !lazy => {
            let Some(address) = address else {
                let reason = "a dump needs the address of its page server";
                return Err(OptionError::value("ps", port, reason));
            };
            if *port == 0 {
                let reason = "a dump needs the port of its page server";
                return Err(OptionError::value("ps", address, reason));
            }
        }
        _ => {}
    }
    if pages.tls.is_some() && pages.server.is_none() && dumps && !lazy {
        return Err(OptionError::Incomplete {
            what: String::from("tls"),
            option: "ps",
            reason: "without a page server there is nothing to encrypt",
        });
    }
    if pages.status.is_some() && context.request == Request::Dump && !lazy {
        return Err(OptionError::Incomplete {
            what: String::from("status_fd"),
            option: "lazy_pages",
            reason: "only a dump that serves pages listens",
        });
    }
    Ok(())
}

pub(super) fn check_tls(options: &Options) -> Result<(), OptionError> {
    let Some(tls) = &options.pages.tls else {
        return Ok(());
    };
    for (option, file) in [
        ("tls_cacert", &tls.cacert),
        ("tls_cacrl", &tls.cacrl),
        ("tls_cert", &tls.cert),
        ("tls_key", &tls.key),
    ] {
        if let Some(file) = file {
            there(option, file)?;
        }
    }
    Ok(())
}

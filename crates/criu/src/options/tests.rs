//! What holds for all options: the table is that of the protocol, a setter sets its field and
//! nothing else, and a configuration file says what the message says.

mod config;
mod refusals;
mod sample;

use std::{collections::BTreeSet, fs::File, os::fd::AsRawFd as _};

use prost::Message as _;

use super::{
    CgroupMode, Descriptor, Dir, InheritedFd, Options, PageServer,
    table::{By, Given, Key, table},
};
use crate::{request::Request, rpc::CriuOpts};

use sample::{Sample, samples};

/// Numbers and names of the fields of `criu_opts`, from the protocol's text.
fn protocol() -> BTreeSet<(u32, String)> {
    let proto = include_str!("../../proto/rpc.proto");
    let (_, message) = proto.split_once("message criu_opts {").unwrap();
    let (message, _) = message.split_once('}').unwrap();
    message
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(left, right)| {
            let name = left.rsplit(' ').next().unwrap().to_owned();
            let number = right.split([' ', ';']).next().unwrap().parse().unwrap();
            (number, name)
        })
        .collect()
}

/// The fields that a message has on the wire: of each number the values.
fn fields(opts: &CriuOpts) -> BTreeSet<(u32, Vec<u8>)> {
    let bytes = opts.encode_to_vec();
    let mut rest = bytes.as_slice();
    let mut fields = BTreeSet::new();
    while !rest.is_empty() {
        let (number, kind) = prost::encoding::decode_key(&mut rest).unwrap();
        let value = rest;
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(kind, number, &mut rest, context).unwrap();
        fields.insert((number, value[..value.len() - rest.len()].to_vec()));
    }
    fields
}

/// The message without the number of the images directory, which is another each time.
fn comparable(options: &Options, request: Request) -> CriuOpts {
    CriuOpts {
        images_dir_fd: -1,
        ..rendered(options, request)
    }
}

fn rendered(options: &Options, request: Request) -> CriuOpts {
    options.rendered(request).unwrap().opts
}

/// A descriptor that does no harm.
fn descriptor() -> Descriptor {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn the_table_has_a_row_for_every_field_of_the_protocol() {
    let protocol = protocol();
    assert_eq!(protocol.len(), 70);
    let rows: BTreeSet<_> = table()
        .map(|row| (row.number, row.name.to_owned()))
        .collect();
    assert_eq!(rows, protocol);
}

#[test]
fn only_the_field_of_two_meanings_has_two_rows() {
    let mut numbers: Vec<_> = table().map(|row| row.number).collect();
    numbers.sort_unstable();
    let twice: Vec<_> = numbers.windows(2).filter(|two| two[0] == two[1]).collect();
    assert_eq!(twice, [[16, 16]]);
}

#[test]
fn a_field_that_has_a_successor_is_set_by_one_that_is_there() {
    for row in table() {
        if let By::Successor(number) = row.by {
            let successor = table().find(|other| other.number == number).unwrap();
            assert!(matches!(successor.by, By::Setter { .. }), "{}", row.name);
        }
    }
}

#[test]
fn setting_an_option_changes_its_field_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    let plain = Options::new(scratch.path());
    let mut seen = BTreeSet::new();
    for Sample { field, also, set } in samples(scratch.path()) {
        let options = set(plain.clone());
        for row in table().filter(|row| row.number == field) {
            seen.insert(field);
            let request = row.requests[0];
            let before = fields(&comparable(&plain, request));
            let after = fields(&comparable(&options, request));
            let changed: BTreeSet<_> = before
                .symmetric_difference(&after)
                .map(|(number, _)| *number)
                .collect();
            let expected = also.iter().copied().chain([field]).collect();
            assert_eq!(changed, expected, "{}", row.name);
        }
    }
    let settable = |by: By| matches!(by, By::Setter { .. } | By::Descriptor { .. });
    let expected: BTreeSet<_> = table()
        .filter(|row| settable(row.by) && row.number != 1)
        .map(|row| row.number)
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn what_is_set_is_taken_back_by_false() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path())
        .leave_running(true)
        .leave_running(false);
    assert_eq!(options, Options::new(images.path()));
    assert_eq!(options.given().count(), 0);
}

#[test]
fn every_log_tells_everything_and_is_called_after_its_request() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path());
    for request in Request::ALL {
        let opts = rendered(&options, request);
        assert_eq!(opts.log_level, Some(4));
        assert_eq!(opts.log_file.as_deref(), options.log_name(request));
    }
    assert_eq!(options.log_name(Request::Dump), Some("dump.log"));
    assert_eq!(options.log_name(Request::Restore), Some("restore.log"));
    let options = options.log_to_stderr(true);
    assert_eq!(rendered(&options, Request::Dump).log_file, None);
}

#[test]
fn a_pre_dump_tracks_memory_whether_asked_or_not() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path());
    assert_eq!(rendered(&options, Request::PreDump).track_mem, Some(true));
    assert_eq!(
        rendered(&options, Request::SinglePreDump).track_mem,
        Some(true)
    );
    assert_eq!(rendered(&options, Request::Dump).track_mem, None);
}

#[test]
fn the_older_field_for_cgroups_agrees_with_the_mode() {
    let images = tempfile::tempdir().unwrap();
    for (mode, number, managed) in [
        (CgroupMode::Ignore, 0, false),
        (CgroupMode::None, 1, true),
        (CgroupMode::Props, 2, true),
        (CgroupMode::Soft, 3, true),
        (CgroupMode::Full, 4, true),
        (CgroupMode::Strict, 5, true),
        (CgroupMode::Default, 6, true),
    ] {
        let opts = rendered(
            &Options::new(images.path()).manage_cgroups(mode),
            Request::Dump,
        );
        assert_eq!(opts.manage_cgroups_mode, Some(number));
        assert_eq!(opts.manage_cgroups, Some(managed));
    }
}

#[test]
fn the_numbers_of_a_message_are_those_of_descriptors_that_are_kept() {
    let [images, work] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, two, socket, status, store] = [(); 5].map(|()| descriptor());
    let options = Options::new(images.path())
        .work_dir(work.path())
        .inherit_fd(InheritedFd::new("pipe:[1]", one.clone()))
        .inherit_fd(InheritedFd::new("pipe:[2]", two.clone()))
        .page_server(PageServer::connected(socket.clone()))
        .status_fd(status.clone())
        .pidfd_store(store.clone());
    let rendered = options.rendered(Request::Dump).unwrap();

    let opts = &rendered.opts;
    let files: Vec<_> = opts.inherit_fd.iter().map(|file| file.fd).collect();
    assert_eq!(files, [one.number(), two.number()]);
    assert_eq!(opts.ps.as_ref().and_then(|ps| ps.fd), Some(socket.number()));
    let inherited: Vec<_> = rendered.inherited.iter().map(|fd| fd.as_raw_fd()).collect();
    assert_eq!(inherited, [one.number(), two.number(), socket.number()]);

    let ours: Vec<_> = rendered.ours.iter().map(|fd| fd.as_raw_fd()).collect();
    let (work, store) = (opts.work_dir_fd.unwrap(), store.number());
    assert_eq!(ours, [opts.images_dir_fd, work, status.number(), store]);
    assert_eq!(opts.status_fd, Some(status.number()));
    assert_eq!(opts.pidfd_store_sk, Some(store));
}

#[test]
fn a_directory_that_criu_opens_itself_has_no_number() {
    let options = Options::new(Dir::Named("/images".into()));
    let opts = rendered(&options, Request::Dump);
    assert_eq!(opts.images_dir_fd, -1);
    assert_eq!(opts.images_dir.as_deref(), Some("/images"));
    let numbers: Vec<_> = fields(&opts)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, [1, 9, 10, 68], "an old CRIU needs the first");
}

#[test]
fn a_row_that_has_no_key_says_why() {
    for row in table() {
        match row.key {
            Key::None(reason) => assert!(!reason.is_empty(), "{}", row.name),
            Key::Named(key) | Key::Exclusive { key, .. } => {
                assert!(!key.contains(['=', ' ', '_']), "{key}");
            }
            Key::Several(keys) => assert!(!keys.is_empty(), "{}", row.name),
        }
        assert!(!row.requests.is_empty(), "{}", row.name);
        assert_eq!(row.given(&Options::new("/")), Given::No, "{}", row.name);
    }
}

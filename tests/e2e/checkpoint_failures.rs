//! A checkpoint that cannot be: it is refused or fails with its cause, leaves no image, and the
//! container runs on as if nobody had asked.

use std::{fs, path::Path};

use containerd_shim_protos::{
    api::{CreateTaskRequest, Status},
    protobuf::well_known_types::any::Any,
    shim::oci::CheckpointOptions,
    ttrpc::{self, Code},
};

use crate::support::{
    counted::Counted,
    counter::{Counter, assert_counts_from_zero},
    engine::Engine,
    host::Host,
    mounted::Tmpfs,
    options::{inline, pack},
    script::write_script,
    shim::refused,
};

for_each_engine! {
    /// runsc itself would say yes, and the container could never start.
    fn of_a_created_container_is_refused_and_it_can_still_start(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.create(&shim.create_request(engine)).expect("Create");
        let image = host.disk().join("image");
        let message = refused(shim.checkpoint(&image, None), Code::FAILED_PRECONDITION);
        assert!(message.contains("created"), "{message}");
        assert!(!image.exists());
        shim.start().expect("Start");
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn of_a_stopped_container_is_refused(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.bundle("c", &["true"]));
        shim.run(engine);
        shim.wait().expect("Wait");
        let image = host.disk().join("image");
        let message = refused(shim.checkpoint(&image, None), Code::FAILED_PRECONDITION);
        assert!(message.contains("stopped"), "{message}");
        shim.delete().expect("Delete");
        shim.shut_down();
    }
}

for_each_engine! {
    fn into_a_directory_that_is_not_empty_is_refused_and_leaves_it_alone(engine: Engine) {
        let counted = Counted::start(engine);
        let image = counted.host.disk().join("image");
        fs::create_dir(&image).expect("a new directory");
        fs::write(image.join("precious"), "theirs").expect("room");
        let message = failed(counted.shim.checkpoint(&image, None));
        assert!(message.contains("image") && message.contains("empty"), "{message}");
        assert_eq!(fs::read_dir(&image).expect("it is still there").count(), 1);
        counted.runs_on();
    }
}

for_each_engine! {
    fn into_a_directory_that_cannot_be_written_fails_and_names_it(engine: Engine) {
        let counted = Counted::start(engine);
        let tmpfs = Tmpfs::mount(counted.host.disk(), "full", "size=1m,ro");
        let image = tmpfs.path().join("image");
        let message = failed(counted.shim.checkpoint(&image, None));
        assert!(message.contains(image.to_str().expect("ASCII")), "{message}");
        drop(tmpfs);
        counted.runs_on();
    }
}

for_each_engine! {
    fn below_a_file_fails_and_names_it(engine: Engine) {
        let counted = Counted::start(engine);
        let file = counted.host.disk().join("file");
        fs::write(&file, "").expect("room");
        let image = file.join("image");
        let message = failed(counted.shim.checkpoint(&image, None));
        assert!(message.contains(image.to_str().expect("ASCII")), "{message}");
        counted.runs_on();
    }
}

for_each_engine! {
    /// What a failure leaves in the image directory is removed, CRIU's log with it; and what CRIU
    /// leaves there cannot be sealed.
    fn with_a_work_path_in_the_image_directory_is_refused_by_name(engine: Engine) {
        let counted = Counted::start(engine);
        let image = counted.host.disk().join("image");
        let work = image.join("work");
        let options = CheckpointOptions {
            exit: true,
            // Where CRIU is to end it, the image would be all that is left.
            open_tcp: !engine.is_gvisor(),
            work_path: work.display().to_string(),
            ..CheckpointOptions::default()
        };
        let result = counted.shim.checkpoint(&image, Some(pack(&options)));
        let message = refused(result, Code::INVALID_ARGUMENT);
        assert!(message.contains(work.to_str().expect("ASCII")), "{message}");
        assert!(!image.exists());
        counted.runs_on();
    }
}

for_each_criu_engine! {
    /// The image is all that is left of a container that CRIU has ended.
    fn to_seal_what_criu_has_ended_leaves_an_image_that_can_be_restored(engine: Engine) {
        ended_by_criu(engine, "mkdir $IMAGE/stray", "stray");
    }
}

for_each_criu_engine! {
    fn of_the_runtime_after_criu_has_ended_all_leaves_an_image_that_can_be_restored(engine: Engine) {
        ended_by_criu(engine, "echo too late >&2; exit 1", "failed");
    }
}

for_each_engine! {
    fn onto_a_disk_that_fills_up_fails_and_the_container_runs_on(engine: Engine) {
        disk_full(engine, None, false);
    }
}

for_each_engine! {
    fn onto_a_disk_that_fills_up_with_exit_fails_and_the_container_runs_on(engine: Engine) {
        disk_full(engine, Some(&pack(&exit())), false);
    }
}

for_each_engine! {
    fn onto_a_disk_that_fills_up_with_exit_leaves_a_paused_container_paused(engine: Engine) {
        disk_full(engine, Some(&pack(&exit())), true);
    }
}

for_each_criu_engine! {
    fn without_criu_says_so_and_how_to_get_it(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim_with_path(&bundle, &[engine.binary()]);
        shim.run(engine);
        let counted = Counted::of(host, shim);
        let image = counted.host.disk().join("image");
        let message = failed(counted.shim.checkpoint(&image, None));
        assert!(message.to_lowercase().contains("criu"), "{message}");
        assert!(message.contains("install"), "{message}");
        counted.runs_on();
    }
}

for_each_engine! {
    fn with_options_of_another_type_is_refused_by_its_name(engine: Engine) {
        let counted = Counted::start(engine);
        let options = Any { type_url: "example.com/Wish".into(), ..Any::default() };
        let image = counted.host.disk().join("image");
        let result = counted.shim.checkpoint(&image, Some(options));
        let message = refused(result, Code::INVALID_ARGUMENT);
        assert!(message.contains("example.com/Wish"), "{message}");
        counted.runs_on();
    }
}

for_each_gvisor! {
    /// By the name in the configuration, which is CRIU's: there it can be set as well.
    fn with_an_option_that_gvisor_cannot_honour_is_refused_by_the_options_name(engine: Engine) {
        let counted = Counted::start(engine);
        let none = CheckpointOptions::default;
        for (options, name) in [
            (CheckpointOptions { open_tcp: true, ..none() }, "tcp_established"),
            (CheckpointOptions { external_unix_sockets: true, ..none() }, "ext_unix_sk"),
            (CheckpointOptions { cgroups_mode: "soft".into(), ..none() }, "cgroup_mode"),
            (
                CheckpointOptions { empty_namespaces: vec!["network".into()], ..none() },
                "empty_namespaces",
            ),
        ] {
            let image = counted.host.disk().join(name);
            let message = failed(counted.shim.checkpoint(&image, Some(pack(&options))));
            assert!(message.contains(name), "{name}: {message}");
            assert!(!image.exists(), "{name}: refused before anything is made");
        }
        counted.runs_on();
    }
}

for_each_engine! {
    fn with_options_that_every_engine_has_succeeds(engine: Engine) {
        let counted = Counted::start(engine);
        let disk = counted.host.disk();
        let options = CheckpointOptions {
            file_locks: true,
            terminal: true,
            work_path: disk.join("work").display().to_string(),
            ..CheckpointOptions::default()
        };
        counted.shim.checkpoint(&disk.join("image"), Some(pack(&options))).expect("Checkpoint");
        assert!(disk.join("image/stasis.json").is_file());
        assert_eq!(disk.join("work/dump.log").is_file(), !engine.is_gvisor());
        counted.runs_on();
    }
}

for_each_engine! {
    /// The image that Checkpoint's own path names is not the one that the client means.
    fn an_image_path_in_the_options_is_where_the_image_goes(engine: Engine) {
        let counted = Counted::start(engine);
        let image = counted.host.disk().join("image");
        let options = CheckpointOptions {
            image_path: image.display().to_string(),
            ..CheckpointOptions::default()
        };
        counted.shim.checkpoint(Path::new(""), Some(pack(&options))).expect("Checkpoint");
        assert!(image.join("stasis.json").is_file());
        counted.runs_on();
    }
}

/// The message of a failure, whatever its code.
#[track_caller]
fn failed(result: ttrpc::Result<()>) -> String {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => status.message().to_owned(),
        other => panic!("a failure was expected, not {other:?}"),
    }
}

/// A container that CRIU has ended, after which the engine does something else that makes the
/// checkpoint fail.
fn ended_by_criu(engine: Engine, mishap: &str, told: &str) {
    let host = Host::new();
    let bundle = host.counter("c");
    let image = host.disk().join("image");
    let spoiler = host.disk().join("spoiler");
    let body = format!(
        "{engine} \"$@\" || exit\n\
         case \" $* \" in *' checkpoint '*) IMAGE={image}; {mishap} ;; esac",
        engine = engine.binary(),
        image = image.display(),
    );
    write_script(&spoiler, &body);
    let config = format!("binary_name = {:?}\n", spoiler.display().to_string());
    let shim = host.shim(&bundle);
    let options = Some(inline(&config)).into();
    shim.create(&CreateTaskRequest {
        options,
        ..shim.create_request(engine)
    })
    .expect("Create");
    shim.start().expect("Start");
    let counter = Counter::of(&bundle);
    counter.await_progress(3);
    let options = CheckpointOptions {
        open_tcp: true,
        ..exit()
    };
    let message = failed(shim.checkpoint(&image, Some(pack(&options))));
    for told in [
        "has ended",
        "tcp_established",
        told,
        image.to_str().expect("ASCII"),
    ] {
        assert!(message.contains(told), "{told}: {message}");
    }
    assert_eq!(shim.wait().expect("Wait"), 137);
    // As containerd does after it.
    shim.resume().expect("Resume");
    assert_eq!(shim.delete().expect("Delete"), 137);
    shim.shut_down();
    assert!(!image.join("stasis.json").exists());

    let shim = host.shim(&bundle.make_again(host.disk()));
    let config = engine.config("[checkpoint]\ntcp_established = true");
    let request = CreateTaskRequest {
        checkpoint: image.display().to_string(),
        options: Some(inline(&config)).into(),
        ..shim.create_request(engine)
    };
    shim.create(&request).expect("Create");
    shim.start().expect("Start");
    counter.await_progress(3);
    assert_counts_from_zero(&counter.seen());
    shim.end();
}

fn disk_full(engine: Engine, options: Option<&Any>, paused: bool) {
    let counted = Counted::start(engine);
    if paused {
        counted.shim.pause().expect("Pause");
    }
    // Less than any engine's image of the smallest container.
    let tmpfs = Tmpfs::mount(counted.host.disk(), "full", "size=64k");
    let image = tmpfs.path().join("image");
    let message = failed(counted.shim.checkpoint(&image, options.cloned()));
    // Whatever the engine says of it; runsc of 2024 says nothing.
    let named = format!(
        "no space left on device for image directory {}",
        image.display()
    );
    assert!(message.contains(&named), "{message}");
    let left: Vec<_> = fs::read_dir(&image)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| entry.path().extension().is_some_and(|e| e == "log")),
        "no image is left, but perhaps a log: {left:?}"
    );
    if paused {
        assert_eq!(counted.shim.status(), Status::PAUSED);
        counted.shim.resume().expect("Resume");
    }
    counted.counter.await_progress(3);
    drop(tmpfs);
    // With room it works, and what was told to end now ends.
    let image = counted.host.disk().join("image");
    counted
        .shim
        .checkpoint(&image, options.cloned())
        .expect("Checkpoint");
    assert!(image.join("stasis.json").is_file());
    if options.is_none() {
        return counted.runs_on();
    }
    assert_eq!(counted.shim.wait().expect("Wait"), 137);
    assert_eq!(counted.shim.delete().expect("Delete"), 137);
    assert_counts_from_zero(&counted.counter.seen());
    counted.shim.shut_down();
}

fn exit() -> CheckpointOptions {
    CheckpointOptions {
        exit: true,
        ..CheckpointOptions::default()
    }
}

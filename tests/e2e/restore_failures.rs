//! A restore that cannot be. What the shim can see is refused at Create, before there is a task;
//! in any case nothing is left, and the same id can be restored again.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use containerd_shim_protos::{api::CreateTaskRequest, shim::oci::CheckpointOptions, ttrpc::Code};
use serde_json::json;

use crate::support::{
    bundle::Bundle,
    counter::{Counter, assert_counts_from_zero},
    engine::Engine,
    host::Host,
    leftovers,
    options::pack,
    script::write_script,
    shim::{Shim, refused},
    wait::{SOON, until},
};

for_each_engine! {
    fn from_an_empty_directory_is_refused_and_names_it(engine: Engine) {
        let dumped = Dumped::make(engine);
        let empty = dumped.host.disk().join("empty");
        fs::create_dir(&empty).expect("a new directory");
        let message = dumped.refused_at_create(engine, &empty);
        assert!(message.contains(empty.to_str().expect("ASCII")), "{message}");
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn from_a_directory_that_is_not_there_is_refused_and_names_it(engine: Engine) {
        let dumped = Dumped::make(engine);
        let absent = dumped.host.disk().join("absent");
        let message = dumped.refused_at_create(engine, &absent);
        assert!(message.contains(absent.to_str().expect("ASCII")), "{message}");
        assert!(!absent.exists(), "a restore makes no image directory");
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn from_a_truncated_image_is_refused_and_names_the_file(engine: Engine) {
        let dumped = Dumped::make(engine);
        let broken = dumped.copy("broken");
        let file = largest(&broken);
        let half = fs::metadata(&file).expect("it is there").len() / 2;
        fs::File::options().write(true).open(&file).and_then(|f| f.set_len(half)).expect("ours");
        let message = dumped.refused_at_create(engine, &broken);
        let name = file.file_name().and_then(|name| name.to_str()).expect("ASCII");
        assert!(message.contains(name), "{name}: {message}");
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn from_an_image_that_lacks_a_file_is_refused_and_names_the_file(engine: Engine) {
        let dumped = Dumped::make(engine);
        let broken = dumped.copy("broken");
        let file = largest(&broken);
        fs::remove_file(&file).expect("ours");
        let message = dumped.refused_at_create(engine, &broken);
        let name = file.file_name().and_then(|name| name.to_str()).expect("ASCII");
        assert!(message.contains(name), "{name}: {message}");
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn from_another_engines_image_is_refused_and_names_both(engine: Engine) {
        let dumped = Dumped::make(engine);
        for other in [Engine::Runsc, Engine::Runc, Engine::Crun] {
            if other == engine || (other.is_gvisor() && engine.is_gvisor()) {
                continue;
            }
            let message = dumped.refused_at_create(other, &dumped.image);
            for name in [kind(engine), kind(other)] {
                assert!(message.contains(name), "{name}: {message}");
            }
        }
        dumped.restores(engine);
    }
}

for_each_gvisor! {
    /// gVisor restores only what the same build has saved.
    fn from_an_image_of_another_build_of_runsc_is_refused(engine: Engine) {
        let dumped = Dumped::make(engine);
        let other =
            if engine == Engine::Runsc { Engine::Runsc2024 } else { Engine::Runsc };
        let message = dumped.refused_at_create(other, &dumped.image);
        assert!(message.contains("version") || message.contains("build"), "{message}");
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn from_an_image_without_a_seal_works(engine: Engine) {
        let mut dumped = Dumped::make(engine);
        dumped.image = dumped.copy("unsealed");
        fs::remove_file(dumped.image.join("stasis.json")).expect("ours");
        dumped.restores(engine);
    }
}

for_each_engine! {
    /// Without a seal nobody can tell before the engine does.
    fn that_fails_in_the_engine_leaves_nothing_and_the_id_can_be_restored(engine: Engine) {
        let dumped = Dumped::make(engine);
        let broken = dumped.copy("broken");
        fs::remove_file(broken.join("stasis.json")).expect("ours");
        let file = if engine.is_gvisor() { largest(&broken) } else { core_image(&broken) };
        let half = fs::metadata(&file).expect("it is there").len() / 2;
        fs::File::options().write(true).open(&file).and_then(|f| f.set_len(half)).expect("ours");

        let shim = dumped.host.shim(&dumped.bundle);
        let mut request = shim.create_request(engine);
        request.checkpoint = broken.display().to_string();
        if shim.create(&request).is_ok() {
            assert!(shim.start().is_err(), "a broken image was restored");
            assert!(shim.state().is_ok_and(|state| state.pid == 0), "{:?}", shim.state());
            shim.wait().expect("Wait does not hang");
            shim.delete().expect("Delete");
        }
        dumped.nothing_is_left_but(&shim);
        shim.shut_down();
        dumped.restores(engine);
    }
}

for_each_engine! {
    fn that_hangs_is_ended_by_a_kill_and_the_id_can_be_restored(engine: Engine) {
        let mut dumped = Dumped::make(engine);
        // The gate is another program than the one that sealed it.
        dumped.image = dumped.copy("unsealed");
        fs::remove_file(dumped.image.join("stasis.json")).expect("ours");
        let gate = dumped.host.gated(engine, "restore");
        let shim = dumped.host.shim(&dumped.bundle);
        let request = gate.create_request(&shim);
        dumped.killed_while_restored(shim, request, || gate.await_arrival());
        dumped.restores(engine);
    }
}

/// By a script of the user's that CRIU runs when it has made the processes, and that hangs.
#[test]
#[ignore = "needs the lab: make test"]
fn that_hangs_in_criu_is_ended_by_a_kill_and_leaves_no_process_of_the_container() {
    let engine = Engine::Runc;
    let dumped = Dumped::make(engine);
    let disk = dumped.host.disk();
    let (script, config, arrived) = (
        disk.join("hang"),
        disk.join("criu.conf"),
        disk.join("arrived"),
    );
    let body = format!(
        "[ \"$CRTOOLS_SCRIPT_ACTION\" = post-restore ] || exit 0\n\
         [ ! -e {arrived} ] || exit 0\n\
         touch {arrived}\n\
         exec sleep 1000",
        arrived = arrived.display(),
    );
    write_script(&script, &body);
    fs::write(&config, format!("action-script {}\n", script.display())).expect("room");
    dumped.bundle.edit_spec(|spec| {
        spec["annotations"] = json!({ "org.criu.config": config });
    });
    let shim = dumped.host.shim(&dumped.bundle);
    let request = shim.create_request(engine);
    dumped.killed_while_restored(shim, request, || {
        until("CRIU runs the script", SOON, || {
            arrived.exists().then_some(())
        });
    });
    dumped.restores(engine);
}

/// A checkpoint of a counter that it has ended.
struct Dumped {
    host: Host,
    bundle: Bundle,
    image: PathBuf,
}

impl Dumped {
    fn make(engine: Engine) -> Self {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        let image = host.disk().join("image");
        let exit = CheckpointOptions {
            exit: true,
            ..CheckpointOptions::default()
        };
        shim.checkpoint(&image, Some(pack(&exit)))
            .expect("Checkpoint");
        shim.wait().expect("Wait");
        shim.delete().expect("Delete");
        shim.shut_down();
        let bundle = bundle.make_again(host.disk());
        Self {
            host,
            bundle,
            image,
        }
    }

    /// A copy of the image, to be spoiled.
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.host.disk().join(name);
        fs::create_dir(&copy).expect("a new directory");
        for file in leftovers::entries_of(&self.image) {
            fs::copy(&file, copy.join(file.file_name().expect("a file"))).expect("room");
        }
        copy
    }

    /// The message with which a shim refuses to create a container from the image.
    #[track_caller]
    fn refused_at_create(&self, engine: Engine, image: &Path) -> String {
        let shim = self.host.shim(&self.bundle);
        let mut request = shim.create_request(engine);
        request.checkpoint = image.display().to_string();
        let error = shim
            .create(&request)
            .expect_err("a Create that must be refused");
        refused(shim.state(), Code::NOT_FOUND);
        self.nothing_is_left_but(&shim);
        shim.shut_down();
        error.to_string()
    }

    fn nothing_is_left_but(&self, shim: &Shim) {
        let mut left = leftovers::of(self.host.namespace());
        let server = format!("process {}:", shim.pid());
        left.retain(|line| !line.starts_with(&server));
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// Restores by `request`, and kills that when it hangs.
    fn killed_while_restored(
        &self,
        shim: Shim,
        mut request: CreateTaskRequest,
        await_hang: impl FnOnce(),
    ) {
        request.checkpoint = self.image.display().to_string();
        shim.create(&request).expect("Create");
        thread::scope(|scope| {
            let start = scope.spawn(|| shim.start());
            await_hang();
            let term = refused(shim.kill(15), Code::FAILED_PRECONDITION);
            assert!(term.contains("a restore is in progress"), "{term}");
            shim.kill(9).expect("Kill");
            let error = start.join().expect("no panic").expect_err("it was killed");
            assert!(error.to_string().contains("given up"), "{error}");
        });
        assert_eq!(shim.wait().expect("Wait does not hang"), 128);
        assert_eq!(shim.delete().expect("Delete"), 128);
        self.nothing_is_left_but(&shim);
        shim.shut_down();
    }

    /// The same id, from the good image: the counter goes on where it stopped.
    fn restores(self, engine: Engine) {
        let counter = Counter::of(&self.bundle);
        let shim = self.host.shim(&self.bundle);
        let mut request = shim.create_request(engine);
        request.checkpoint = self.image.display().to_string();
        shim.create(&request).expect("Create");
        shim.start().expect("Start");
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        shim.end();
    }
}

/// What the engine calls itself, whatever its release.
fn kind(engine: Engine) -> &'static str {
    if engine.is_gvisor() {
        "runsc"
    } else {
        engine.binary()
    }
}

fn largest(image: &Path) -> PathBuf {
    let size = |file: &PathBuf| fs::metadata(file).map_or(0, |data| data.len());
    leftovers::entries_of(image)
        .into_iter()
        .max_by_key(size)
        .expect("an image has files")
}

fn core_image(image: &Path) -> PathBuf {
    let is_core = |file: &PathBuf| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("core-"))
    };
    leftovers::entries_of(image)
        .into_iter()
        .find(is_core)
        .expect("CRIU writes core images")
}

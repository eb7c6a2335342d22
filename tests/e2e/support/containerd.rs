//! A containerd for one test: started, asked through `ctr`, stopped, and searched for leftovers.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    thread,
};

use super::{
    command::Run,
    daemon::Daemon,
    engine::Engine,
    lab::{Lab, Release, lab},
    leftovers,
    script::write_script,
    wait::{SOON, until, until_is},
};

/// Our shim's name for containerd.
pub const STASIS: &str = "io.containerd.stasis.v1";

/// The stock shim's name, and ours where it stands in for the stock shim.
pub const RUNC_V2: &str = "io.containerd.runc.v2";

/// A containerd with an image and our shim. Dropping it ends it and all that it ran, and fails
/// the test if something is left.
#[derive(Debug)]
pub struct Containerd {
    lab: Lab,
    name: String,
    directory: PathBuf,
    state: PathBuf,
    daemon: Daemon,
}

impl Containerd {
    /// Our shim has its own names; `io.containerd.runc.v2` is the stock shim.
    pub fn start() -> Self {
        Self::start_with(&["containerd-shim-stasis-v1", "containerd-shim-runsc-v1"])
    }

    /// Our shim stands in for the stock one as well.
    pub fn start_with_drop_in() -> Self {
        Self::start_with(&["containerd-shim-stasis-v1", "containerd-shim-runc-v2"])
    }

    fn start_with(shim_names: &[&str]) -> Self {
        let lab = lab();
        let name = lab.unique_name();
        let directory = lab.scratch(&name);
        let shims = directory.join("bin");
        fs::create_dir(&shims).expect("a new directory");
        for shim in shim_names {
            symlink(lab.shim(), shims.join(shim)).expect("a new link");
        }
        // On a tmpfs, as on a real host: CRIU and runsc must cope with it.
        let state = Path::new("/run").join(&name);
        let daemon = Daemon::start(&directory, &state);
        let containerd = Self {
            lab,
            name,
            directory,
            state,
            daemon,
        };
        containerd.await_answer();
        containerd.import_image();
        containerd
    }

    /// The namespace of the test's containers; the test's name in paths.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// A directory on a disk that goes with the test.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The release.
    pub fn release(&self) -> Release {
        self.lab.release()
    }

    /// The image that was imported.
    pub fn image(&self) -> String {
        self.lab.image()
    }

    /// The address of containerd's API.
    pub fn address(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// A command line of ctr, its words separated by blanks, to be run.
    pub fn ctr(&self, line: &str) -> Run {
        Run::new(&format!(
            "ctr --address {} --namespace {} {line}",
            self.address().display(),
            self.name
        ))
    }

    /// A `ctr run` of the image with these options; the command is to be appended.
    pub fn run(&self, options: &str, id: &str) -> Run {
        self.ctr(&format!("run {options} {} {id}", self.image()))
    }

    /// Options of `ctr run` that choose our shim and the engine.
    pub fn runtime(&self, engine: Engine) -> String {
        self.runtime_with(engine, "")
    }

    /// The same with more lines of configuration.
    pub fn runtime_with(&self, engine: Engine, config: &str) -> String {
        let file = self.directory.join(format!("{}.toml", engine.binary()));
        // Several threads of a test may ask at once: containerd must never read half a file.
        let aside = self
            .directory
            .join(format!(".{:?}.toml", thread::current().id()));
        fs::write(&aside, engine.config(config)).expect("room");
        fs::rename(&aside, &file).expect("a directory of our own");
        format!(
            "--runtime {STASIS} --runtime-config-path {}",
            file.display()
        )
    }

    /// The engine as a program that needs no configuration, for options that name only a binary.
    pub fn binary(&self, engine: Engine) -> PathBuf {
        let wrapper = self.directory.join(engine.binary());
        write_script(&wrapper, &engine.script());
        wrapper
    }

    /// The task's status as `ctr task ls` has it; none if there is no such task.
    pub fn status(&self, id: &str) -> Option<String> {
        let listing = self.ctr("task ls").ok();
        let mut rows = listing
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.first() == Some(&id))
            .map(|row| row[2].to_owned())
    }

    /// The task's pid as `ctr task ls` has it.
    pub fn pid(&self, id: &str) -> u32 {
        let listing = self.ctr("task ls").ok();
        let mut rows = listing
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows
            .find(|row| row.first() == Some(&id))
            .expect("a task of that name");
        row[1].parse().expect("a pid")
    }

    /// Waits until the task's status is `wanted`.
    pub fn await_status(&self, id: &str, wanted: &str) {
        let wanted = Some(wanted.to_owned());
        until_is(&format!("the status of {id}"), &wanted, || self.status(id));
    }

    /// Kills the task and deletes it and the container, as people do it with ctr.
    pub fn remove(&self, id: &str) {
        self.ctr(&format!("task kill --signal SIGKILL {id}")).ok();
        self.await_status(id, "STOPPED");
        self.delete_stopped(id, 137);
        self.ctr(&format!("container delete {id}")).ok();
    }

    /// Deletes a stopped task, and checks the exit status that ctr tells.
    pub fn delete_stopped(&self, id: &str, status: u32) {
        let deleted = self.ctr(&format!("task delete {id}")).run();
        deleted.ok();
        let told = format!("non-zero exit code {status}");
        let told = if status == 0 { "" } else { &told };
        assert!(
            deleted.stderr.contains(told),
            "status {status} was expected of {deleted}"
        );
    }

    /// Kills containerd itself with SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts containerd again on the same state after [`Containerd::kill`].
    pub fn start_again(&mut self) {
        self.daemon.start_again();
        self.await_answer();
    }

    /// Processes of the test, containerd itself left out.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mut processes = leftovers::processes(&self.name);
        processes.retain(|(pid, _)| *pid != self.daemon.pid());
        processes
    }

    /// The pids of the shims, of whatever name.
    pub fn shims(&self) -> Vec<u32> {
        let shims = self.processes().into_iter();
        shims
            .filter(|(_, line)| line.contains("containerd-shim-"))
            .map(|(pid, _)| pid)
            .collect()
    }

    fn await_answer(&self) {
        // The socket is there before the services are; ctr waits for them.
        until("containerd listens", SOON, || {
            UnixStream::connect(self.address()).ok()
        });
        self.ctr("version").ok();
    }

    fn import_image(&self) {
        let archive = self.lab.image_archive();
        // 2.1's transfer service has no platform to unpack for; 1.7 has no such flag.
        let local = if self.release() == Release::V1_7 {
            ""
        } else {
            "--local"
        };
        self.ctr(&format!("image import {local} {archive}")).ok();
    }

    /// Ends every task, as a user would who gives up on the machine.
    fn end_tasks(&self) {
        for id in self.ctr("task ls --quiet").run().text().lines() {
            self.ctr(&format!("task delete --force {id}")).run();
        }
    }

    fn stop(&mut self) {
        if self.daemon.is_running() {
            self.end_tasks();
        }
        let leftovers = leftovers::after(SOON, || self.leftovers());
        self.daemon.stop();
        if leftovers.is_empty() {
            leftovers::remove_cgroup_parents(&self.name);
            fs::remove_dir_all(&self.directory).expect("nothing is mounted there");
            let _ = fs::remove_dir_all(&self.state);
        } else {
            eprintln!("{}", self.daemon.log());
            leftovers::sweep(&self.name);
            panic!("left behind:\n{}", leftovers.join("\n"));
        }
    }

    /// What is there of the test's tasks.
    pub fn leftovers(&self) -> Vec<String> {
        let of_containerd = format!("process {}:", self.daemon.pid());
        let mut found = leftovers::of(&self.name);
        found.retain(|line| !line.starts_with(&of_containerd));
        for of_tasks in [self.state.clone(), self.directory.join("root")] {
            let tasks = of_tasks
                .join("io.containerd.runtime.v2.task")
                .join(&self.name);
            let files = leftovers::entries_of(&tasks);
            found.extend(files.iter().map(|file| format!("file {}", file.display())));
        }
        found
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- containerd and its shims ({}):\n{}---",
                self.name,
                self.daemon.log()
            );
            self.end_tasks();
            self.daemon.kill();
            leftovers::sweep(&self.name);
        } else {
            self.stop();
        }
    }
}

//! What becomes of the cgroup of a process, in version 2.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use stasis_criu::{
    Error, Options,
    options::{CgroupMode as Mode, CgroupProperties, CgroupRoot, CgroupStrategy, LogLevel},
};

use crate::victim::{self, Victim};

/// Where the tests themselves, and so CRIU, are.
const OURS: &str = "/lab";

/// A cgroup, without children.
struct Cgroup {
    name: &'static str,
}

impl Cgroup {
    fn make(name: &'static str) -> Self {
        let cgroup = Self { name };
        fs::create_dir(cgroup.path()).unwrap();
        cgroup
    }

    fn path(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(&self.name[1..])
    }

    fn set(&self, property: &str, value: &str) {
        fs::write(self.path().join(property), value).unwrap();
    }

    fn property(&self, name: &str) -> String {
        let value = fs::read_to_string(self.path().join(name)).unwrap();
        value.trim_end().to_owned()
    }

    /// A victim in this cgroup.
    fn victim(&self) -> Victim {
        let victim = Victim::start(&[]);
        self.set("cgroup.procs", &victim.pid().to_string());
        victim
    }

    /// Removes it, when the last of its processes is out.
    fn remove(&self) {
        let deadline = Instant::now() + victim::PATIENCE;
        while self.path().exists() {
            assert!(Instant::now() < deadline, "{} stays", self.name);
            let _ = fs::remove_dir(self.path());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The cgroup that a process is in.
fn cgroup_of(pid: rustix::process::Pid) -> String {
    let path = format!("/proc/{}/cgroup", pid.as_raw_pid());
    let line = fs::read_to_string(path).unwrap();
    line.trim_end().strip_prefix("0::").unwrap().to_owned()
}

/// Where a process is restored to, and which of a property's values the cgroup then has; or why
/// it is not restored.
type Outcome = Result<(&'static str, Value), &'static str>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// The one that it had when the process was dumped.
    Dumped,
    /// The one that it has been given since.
    Given,
    /// It is not there.
    Gone,
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn every_mode_makes_of_a_cgroup_what_it_says() {
    const MODES: &str = "/modes";
    let missing = Err("Cgroup dir unified/modes doesn't exist");
    let existing = Err("Abort restore of existing cgroups");
    let dumped = Ok((MODES, Value::Dumped));
    let given = Ok((MODES, Value::Given));
    let (ours, left) = (Ok((OURS, Value::Gone)), Ok((OURS, Value::Given)));
    let nowhere = Err("No such file or directory");
    let table: [(Mode, Mode, Outcome, Outcome); 9] = [
        // At the dump, at the restore, without the cgroup, with it and another value.
        (Mode::Ignore, Mode::Ignore, ours, left),
        (Mode::None, Mode::None, missing, given),
        (Mode::Props, Mode::Props, missing, dumped),
        (Mode::Soft, Mode::Soft, dumped, given),
        (Mode::Full, Mode::Full, dumped, dumped),
        (Mode::Strict, Mode::Strict, dumped, existing),
        (Mode::Default, Mode::Default, dumped, given),
        (Mode::Full, Mode::Ignore, ours, left),
        // Which cgroup it was is in the image even so, and nothing else of it.
        (Mode::Ignore, Mode::Full, nowhere, given),
    ];
    for (at_dump, at_restore, without, with) in table {
        for (there, expected) in [(false, without), (true, with)] {
            let case = format!("{at_dump:?}, {at_restore:?}, there: {there}");
            let outcome = outcome(MODES, at_dump, at_restore, there).await;
            match (&outcome, expected) {
                (Ok((cgroup, value)), Ok(expected)) => {
                    assert_eq!((cgroup.as_str(), *value), expected, "{case}");
                }
                (Err(error), Err(cause)) => {
                    assert!(error.to_string().contains(cause), "{case}: {error}");
                }
                _ => panic!("{case}: {outcome:?}"),
            }
        }
    }
}

async fn outcome(
    name: &'static str,
    at_dump: Mode,
    at_restore: Mode,
    there: bool,
) -> Result<(String, Value), Error> {
    /// CRIU takes it along.
    const PROPERTY: &str = "cgroup.max.descendants";
    let criu = crate::criu();
    let images = crate::directory();
    let cgroup = Cgroup::make(name);
    cgroup.set(PROPERTY, "7");
    let mut victim = cgroup.victim();
    let options = victim::options(images.path());
    criu.dump(&options.clone().pid(victim.pid()).manage_cgroups(at_dump))
        .await?;
    assert!(victim.has_ended());
    if there {
        cgroup.set(PROPERTY, "8");
    } else {
        cgroup.remove();
    }
    let restored = criu.restore(&options.manage_cgroups(at_restore)).await;
    let value = if cgroup.path().exists() {
        match cgroup.property(PROPERTY).as_str() {
            "7" => Value::Dumped,
            "8" => Value::Given,
            other => panic!("{other}"),
        }
    } else {
        Value::Gone
    };
    let restored = restored.map(|restored| {
        let cgroup = cgroup_of(restored.pid);
        victim.is_well(&[victim.pid()]);
        crate::end(restored.pid);
        (cgroup, value)
    });
    if restored.is_err() {
        let untouched = if there { Value::Given } else { Value::Gone };
        assert_eq!(value, untouched);
    }
    cgroup.remove();
    restored
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_cgroup_comes_back_below_another_root_and_without_its_limits() {
    let criu = crate::criu();
    let images = crate::directory();
    let cgroup = Cgroup::make("/limited");
    for (property, value) in [("cgroup.max.depth", "3"), ("pids.max", "50")] {
        cgroup.set(property, value);
    }
    let mut victim = cgroup.victim();
    // CRIU dumps properties by controller, and to it version 2 is one controller without a name.
    let properties =
        CgroupProperties::default().controller("pids", CgroupStrategy::Merge, ["pids.max"]);
    let full = |options: Options| options.manage_cgroups(Mode::Full);
    let options = full(victim::options(images.path()).pid(victim.pid()));
    criu.dump(&options.cgroup_props(properties)).await.unwrap();
    assert!(victim.has_ended());
    cgroup.remove();

    let options = full(victim::options(images.path()));
    let root = CgroupRoot::all("/elsewhere");
    let restored = criu.restore(&options.cgroup_root(root)).await.unwrap();
    victim.is_well(&[victim.pid()]);
    assert_eq!(cgroup_of(restored.pid), "/elsewhere");
    let elsewhere = Cgroup { name: "/elsewhere" };
    assert_eq!(elsewhere.property("cgroup.max.depth"), "3");
    assert_eq!(elsewhere.property("pids.max"), "max");
    crate::end(restored.pid);
    elsewhere.remove();
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_process_that_was_frozen_by_its_cgroup_runs_on() {
    let criu = crate::criu();
    let images = crate::directory();
    let cgroup = Cgroup::make("/frozen");
    let mut victim = cgroup.victim();
    let options = victim::options(images.path())
        .pid(victim.pid())
        .freeze_cgroup(cgroup.path())
        .log_level(LogLevel::Debug)
        .leave_running(true);
    criu.dump(&options).await.unwrap();
    let log = fs::read_to_string(images.path().join("dump.log")).unwrap();
    assert!(
        log.contains("freezing cgroup /sys/fs/cgroup/frozen"),
        "{log}"
    );
    assert_eq!(cgroup.property("cgroup.freeze"), "0");
    victim.is_well(&[victim.pid()]);
    drop(victim);
    cgroup.remove();
}

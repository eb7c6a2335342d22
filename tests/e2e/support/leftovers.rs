//! What a test has left behind: processes, mounts, cgroups and files that bear its name.
//!
//! Several tests run at once in a lab, so each looks only for what its unique name is in. What
//! bears no name (a `criu swrk`, a mount of CRIU's) is found by `tests/in-lab`, which compares
//! the whole lab before and after.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The directories in which engines and containerd keep something for each container.
const STATE: [&str; 2] = ["/run/containerd/runsc", "/run/containerd/runc"];

/// Everything that is left of the test `name`, in words; empty when all is clean.
pub fn of(name: &str) -> Vec<String> {
    let mut found: Vec<String> = processes(name)
        .into_iter()
        .map(|(pid, line)| format!("process {pid}: {line}"))
        .collect();
    found.extend(
        mounts(name)
            .into_iter()
            .map(|mount| format!("mount {}", mount.display())),
    );
    found.extend(
        cgroups(name)
            .into_iter()
            .map(|cgroup| format!("cgroup {}", cgroup.display())),
    );
    found.extend(
        engine_files(name)
            .into_iter()
            .map(|file| format!("file {}", file.display())),
    );
    found
}

/// What is still found when the time is over; nothing, as soon as nothing is.
pub fn after(within: Duration, find: impl Fn() -> Vec<String>) -> Vec<String> {
    let end = Instant::now() + within;
    loop {
        let found = find();
        if found.is_empty() || Instant::now() > end {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose command line or cgroup bears the name.
pub fn processes(name: &str) -> Vec<(u32, String)> {
    let in_cgroup = format!("/{name}/");
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            // A process may end while we look: it is then no longer left.
            let line = command_line(pid).ok()?;
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            let zombie = state(pid)? == 'Z';
            (!zombie && (line.contains(name) || cgroup.contains(&in_cgroup))).then_some((pid, line))
        })
        .collect()
}

/// The command line of a process, separated by blanks.
pub fn command_line(pid: u32) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/cmdline"))?
        .replace('\0', " ")
        .trim()
        .to_owned())
}

/// The letter for the state of a process.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Mounts at a path that bears the name.
pub fn mounts(name: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    places
        .filter(|place| place.contains(name))
        .map(PathBuf::from)
        .collect()
}

/// Cgroups of containers: all below `/NAME` of every hierarchy. The directory itself is made by
/// the first container and belongs to none.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    cgroup_parents(name)
        .iter()
        .flat_map(|parent| directories_in(parent))
        .collect()
}

/// What engines keep for containers. A file in the root itself is the engine's own, such as
/// crun's `.empty-directory`.
fn engine_files(name: &str) -> Vec<PathBuf> {
    STATE
        .iter()
        .flat_map(|root| entries_of(&Path::new(root).join(name)))
        .collect()
}

/// What is in a directory but for hidden files; nothing, if it is not there.
pub fn entries_of(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let entries = entries.filter_map(Result::ok);
    let shown = entries.filter(|entry| entry.file_name().as_encoded_bytes()[0] != b'.');
    shown.map(|entry| entry.path()).collect()
}

/// Takes away what a test that has failed left behind, so that the others are not in its way.
pub fn sweep(name: &str) {
    for (pid, _) in processes(name) {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("no process has pid 0");
        let _ = kill_process(pid, Signal::KILL);
    }
    for cgroup in cgroups(name) {
        let _ = fs::write(cgroup.join("freezer.state"), "THAWED");
        let _ = fs::write(cgroup.join("cgroup.freeze"), "0");
    }
    for mount in mounts(name).iter().rev() {
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Removes the empty cgroups that were the parents of the test's containers.
pub fn remove_cgroup_parents(name: &str) {
    for parent in cgroup_parents(name) {
        let _ = fs::remove_dir(parent);
    }
}

fn cgroup_parents(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    // Version 2 has the containers in the tree itself, version 1 below each hierarchy.
    let mut parents = directories_in(top);
    parents.push(top.to_owned());
    parents.iter_mut().for_each(|parent| parent.push(name));
    parents.retain(|parent| parent.is_dir());
    parents
}

fn directories_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let real = entries
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    real.map(|entry| entry.path()).collect()
}

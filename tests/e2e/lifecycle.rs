//! What people do with a container day by day, compared with the stock runc shim.
//!
//! Exits in numbers are in `exits`, many containers at once in `churn`.

use crate::support::{
    command::{Output, Run},
    containerd::{Containerd, RUNC_V2},
    lab::Release,
    wait::{SOON, until},
};

for_each_engine! {
    fn a_plain_run_prints_what_the_container_prints(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--rm {}", containerd.runtime(engine));
        assert_eq!(containerd.run(&options, "c").args(&["echo", "hello"]).ok(), "hello\n");
    }
}

for_each_engine! {
    fn everyday_commands_do_and_print_what_they_do_with_the_stock_shim(engine: Engine) {
        let containerd = Containerd::start();
        let ours = transcript(&containerd, &containerd.runtime(engine));
        let stock = transcript(&containerd, &format!("--runtime {RUNC_V2}"));
        for (ours, stock) in ours.iter().zip(&stock) {
            assert_eq!(ours, stock);
        }
        assert_eq!(ours.len(), stock.len());
    }
}

for_each_engine! {
    fn standard_input_reaches_the_container_and_ends(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--rm {}", containerd.runtime(engine));
        let typed: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let run = containerd.run(&options, "c").args(&["cat"]).stdin(typed.clone()).run();
        run.ok();
        assert!(run.stdout == typed, "{} bytes came back of {}", run.stdout.len(), typed.len());
    }
}

for_each_engine! {
    fn a_killed_container_has_the_signals_status(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        containerd.run(&options, "c").args(&["sleep", "1000"]).ok();
        containerd.ctr("task kill --signal SIGKILL c").ok();
        containerd.await_status("c", "STOPPED");
        containerd.delete_stopped("c", 137);
        containerd.ctr("container delete c").ok();
    }
}

for_each_engine! {
    /// By a signal that each has to handle: a PID namespace ends with its init, whoever was killed.
    fn kill_all_reaches_every_process_of_the_container(engine: Engine) {
        const WORKER: &str = "work() { trap 'echo > /data/got-$1; exit' USR1; echo > /data/$1; \
             while :; do sleep 0.05; done; }; \
             trap : USR1; work a & work b & while :; do sleep 0.05; done";
        let containerd = Containerd::start();
        let data = containerd.directory().join("data");
        std::fs::create_dir(&data).expect("a directory of our own");
        let options = format!(
            "--detach --null-io --mount type=bind,src={},dst=/data,options=rbind:rw {}",
            data.display(),
            containerd.runtime(engine)
        );
        containerd.run(&options, "c").args(&["sh", "-c", WORKER]).ok();
        let await_file = |name: &str| {
            until(name, SOON, || data.join(name).exists().then_some(()));
        };
        ["a", "b"].into_iter().for_each(await_file);
        containerd.ctr("task kill --all --signal SIGUSR1 c").ok();
        // From 1.2 on runc signals init alone, whatever it is told.
        if engine != Engine::Runc || containerd.release() == Release::V1_7 {
            ["got-a", "got-b"].into_iter().for_each(await_file);
        }
        containerd.ctr("task kill --all --signal SIGKILL c").ok();
        containerd.await_status("c", "STOPPED");
        containerd.delete_stopped("c", 137);
        containerd.ctr("container delete c").ok();
    }
}

/// A command, and what it did, but for times and pids.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    status: i32,
    stdout: String,
    stderr: String,
}

/// A day in the life of a container under this runtime.
fn transcript(containerd: &Containerd, runtime: &str) -> Vec<Step> {
    let data = containerd.directory().join("data");
    std::fs::create_dir_all(&data).expect("a directory of our own");
    let mount = format!(
        "--mount type=bind,src={},dst=/data,options=rbind:rw",
        data.display()
    );
    let mut steps = Vec::new();
    let mut step = |command: &str, run: Run| steps.push(Step::of(command, &run.run()));

    let once = containerd.run(&format!("--rm {runtime}"), "once");
    step(
        "run",
        once.args(&["sh", "-c", "echo out; echo err >&2; exit 7"]),
    );
    let detached = containerd.run(&format!("--detach --null-io {mount} {runtime}"), "c");
    let patient = "trap 'exit 9' TERM; sleep 1000 & touch /data/ready; wait";
    step("run --detach", detached.args(&["sh", "-c", patient]));
    until("the container is ready", SOON, || {
        data.join("ready").exists().then_some(())
    });
    let ctr = |line: &str| containerd.ctr(line);
    step("task ls", ctr("task ls"));
    step("task ps", ctr("task ps c"));
    step(
        "task exec",
        ctr("task exec --exec-id e1 c").args(&["echo", "from an exec"]),
    );
    let reads = ctr("task exec --exec-id e2 c").args(&["sh", "-c", "cat; exit 3"]);
    step("task exec, reading", reads.stdin("typed\n"));
    step("task exec of nothing", ctr("task exec --exec-id e3 c true"));
    step("task pause", ctr("task pause c"));
    step("task ls, paused", ctr("task ls"));
    step("task resume", ctr("task resume c"));
    step("task ls, resumed", ctr("task ls"));
    step("task ps, resumed", ctr("task ps c"));
    step("task kill", ctr("task kill --signal SIGTERM c"));
    containerd.await_status("c", "STOPPED");
    step("task ls, stopped", ctr("task ls"));
    step("task delete", ctr("task delete c"));
    step("task ls, deleted", ctr("task ls"));
    step("container delete", ctr("container delete c"));
    std::fs::remove_dir_all(&data).expect("nothing uses it any more");
    steps
}

impl Step {
    fn of(command: &str, output: &Output) -> Self {
        Self {
            command: command.to_owned(),
            status: output.status,
            stdout: without_pids(&output.text()),
            stderr: without_times(&output.stderr),
        }
    }
}

/// Columns are padded to the width of what is in them, so the pids' widths go as well.
fn without_pids(text: &str) -> String {
    let is_pid = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let lines = text.lines().map(|line| {
        let words = line
            .split_whitespace()
            .map(|word| if is_pid(word) { "PID" } else { word });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn without_times(text: &str) -> String {
    let words = text
        .split_whitespace()
        .filter(|word| !word.starts_with("time="));
    words.collect::<Vec<_>>().join(" ")
}

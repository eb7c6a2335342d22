//! The events that the shim publishes: their order and contents, and nobody there to take them.

use containerd_shim_protos::events::task::{TaskExit, TaskStart};

use crate::support::{counter::Counter, events::topics, host::Host, output::Output};

for_each_engine! {
    fn come_in_the_order_that_containerd_demands(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        let pid = shim.run(engine);
        Counter::of(&shim.bundle).await_progress(1);
        shim.exec("e", false, &["sh", "-c", "exit 3"]).expect("Exec");
        shim.start_exec("e").expect("Start of the exec");
        assert_eq!(shim.wait_exec("e").expect("Wait"), 3);
        assert_eq!(shim.delete_exec("e").expect("Delete of the exec"), 3);
        shim.pause().expect("Pause");
        shim.checkpoint(&host.disk().join("image"), None).expect("Checkpoint");
        shim.resume().expect("Resume");
        shim.end_container();

        // Before the shim ends, which waits for its events to be taken, but not for long.
        let events = host.events.until("/tasks/delete");
        shim.shut_down();
        assert_eq!(
            topics(&events),
            [
                "/tasks/create",
                "/tasks/start",
                "/tasks/exec-added",
                "/tasks/exec-started",
                "/tasks/exit",
                "/tasks/paused",
                "/tasks/checkpointed",
                "/tasks/resumed",
                "/tasks/exit",
                "/tasks/delete",
            ]
        );
        assert!(events.iter().all(|event| event.namespace == host.namespace()));
        assert_eq!(events[1].message::<TaskStart>().pid, pid);
        let exec = events[4].message::<TaskExit>();
        assert_eq!((exec.id.as_str(), exec.exit_status), ("e", 3));
        let init = events[8].message::<TaskExit>();
        assert_eq!((init.id.as_str(), init.pid, init.exit_status), ("c", pid, 137));
        assert!(init.exited_at.is_some());
    }
}

for_each_engine! {
    /// The exit of an exec waits a little for its output to be read, and the Delete comes first.
    fn tell_the_end_of_an_exec_before_that_of_its_container(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        let output = Output::make(host.disk(), "unread");
        shim.exec_to(output.path(), "e", &["sh", "-c", "echo; exec sleep 1000"]).expect("Exec");
        shim.start_exec("e").expect("Start of the exec");
        output.await_something();
        shim.end_container();

        let events = host.events.until("/tasks/delete");
        shim.shut_down();
        let exits: Vec<_> = events
            .iter()
            .filter(|event| event.topic == "/tasks/exit")
            .map(|event| event.message::<TaskExit>().id)
            .collect();
        assert_eq!(exits, ["e", "c"]);
    }
}

for_each_engine! {
    fn that_nobody_takes_hold_nothing_up(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim_without_events(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        shim.checkpoint(&host.disk().join("image"), None).expect("Checkpoint");
        shim.end();
    }
}

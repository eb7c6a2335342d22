//! Requests in the wrong state, for what is not there, or for what we do not serve.

use containerd_shim_protos::{
    api,
    protobuf::Message,
    ttrpc::{self, Code, Request},
};

use crate::support::{
    counter::Counter,
    engine::Engine,
    host::Host,
    shim::{Shim, refused},
};

/// As containerd before 2.0 calls it.
const TASK: &str = "containerd.task.v2.Task";

for_each_engine! {
    fn to_start_twice_is_refused_and_the_container_runs_on(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        let message = refused(shim.start(), Code::FAILED_PRECONDITION);
        assert!(message.contains("running"), "{message}");
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn to_delete_while_running_or_paused_is_refused_and_the_container_runs_on(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        let message = refused(shim.delete(), Code::FAILED_PRECONDITION);
        assert!(message.contains("running"), "{message}");
        shim.pause().expect("Pause");
        let message = refused(shim.delete(), Code::FAILED_PRECONDITION);
        assert!(message.contains("paused"), "{message}");
        shim.resume().expect("Resume");
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn a_container_that_was_never_started_can_be_killed_and_deleted(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.create(&shim.create_request(engine)).expect("Create");
        shim.kill(9).expect("Kill");
        assert_eq!(shim.wait().expect("Wait"), 137);
        assert_eq!(shim.delete().expect("Delete"), 137);
        shim.shut_down();
    }
}

for_each_engine! {
    fn a_container_that_was_never_started_can_be_deleted(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.create(&shim.create_request(engine)).expect("Create");
        shim.delete().expect("Delete");
        shim.shut_down();
    }
}

for_each_engine! {
    fn to_exec_in_a_stopped_container_is_refused(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.bundle("c", &["true"]));
        shim.run(engine);
        shim.wait().expect("Wait");
        let message = refused(shim.exec("e", false, &["sleep", "1000"]), Code::FAILED_PRECONDITION);
        assert!(message.contains("stopped"), "{message}");
        refused(shim.pause(), Code::FAILED_PRECONDITION);
        refused(shim.kill(15), Code::NOT_FOUND);
        shim.delete().expect("Delete");
        shim.shut_down();
    }
}

for_each_engine! {
    fn a_signal_out_of_range_is_refused_by_its_number(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        for signal in [65, 4096, u32::MAX] {
            let message = refused(shim.kill(signal), Code::INVALID_ARGUMENT);
            assert!(message.contains(&signal.to_string()), "{message}");
        }
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn an_exec_that_cannot_start_can_be_deleted_at_once(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        shim.exec("e", false, &["/no/such/command"]).expect("Exec only takes note");
        let error = shim.start_exec("e").expect_err("no such command");
        assert!(error.to_string().contains("/no/such/command"), "{error}");
        shim.delete_exec("e").expect("Delete of the exec");
        shim.end();
    }
}

for_each_engine! {
    fn an_exec_with_a_terminal_or_an_id_that_is_taken_is_refused(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        let message = refused(shim.exec("t", true, &["sleep", "1000"]), Code::UNIMPLEMENTED);
        assert!(message.contains("terminal"), "{message}");
        shim.exec("e", false, &["sleep", "1000"]).expect("Exec");
        refused(shim.exec("e", false, &["sleep", "1000"]), Code::ALREADY_EXISTS);
        shim.end();
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn for_an_unknown_id_is_not_found_and_names_it() {
    let host = Host::new();
    let shim = host.shim(&host.counter("c"));
    shim.run(Engine::Runc);
    for method in [
        "State",
        "Start",
        "Delete",
        "Pids",
        "Pause",
        "Resume",
        "Checkpoint",
        "Kill",
        "CloseIO",
        "Wait",
    ] {
        let message = refused(call(&shim, TASK, method, "stranger"), Code::NOT_FOUND);
        assert!(message.contains("stranger"), "{method}: {message}");
    }
    let message = refused(shim.wait_exec("stranger"), Code::NOT_FOUND);
    assert!(message.contains("stranger"), "{message}");
    shim.end();
}

#[test]
#[ignore = "needs the lab: make test"]
fn for_what_comes_later_is_unimplemented_by_name() {
    let host = Host::new();
    let shim = host.shim(&host.counter("c"));
    shim.run(Engine::Runc);
    for method in ["Stats", "Update", "ResizePty"] {
        let message = refused(call(&shim, TASK, method, "c"), Code::UNIMPLEMENTED);
        assert!(message.contains(method), "{message}");
    }
    shim.end();
}

#[test]
#[ignore = "needs the lab: make test"]
fn for_a_service_or_method_that_is_not_ours_is_unimplemented() {
    let host = Host::new();
    let shim = host.shim(&host.counter("c"));
    shim.run(Engine::Runc);
    for (service, method) in [
        ("containerd.runtime.sandbox.v1.Sandbox", "Platform"),
        ("containerd.services.transfer.v1.Transfer", "Transfer"),
        ("containerd.task.v2.Task", "Teleport"),
        ("containerd.task.v3.Task", "Teleport"),
    ] {
        let message = refused(call(&shim, service, method, "c"), Code::UNIMPLEMENTED);
        assert!(
            message.contains(method) || message.contains(service),
            "{message}"
        );
    }
    shim.end();
}

#[test]
#[ignore = "needs the lab: make test"]
fn to_either_version_of_the_task_service_are_answered() {
    let host = Host::new();
    let shim = host.shim(&host.counter("c"));
    shim.run(Engine::Runc);
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        call(&shim, service, "State", "c").expect("State");
    }
    shim.end();
}

#[test]
#[ignore = "needs the lab: make test"]
fn to_shut_down_while_a_container_runs_do_not_end_the_shim() {
    let host = Host::new();
    let bundle = host.counter("c");
    let shim = host.shim(&bundle);
    shim.run(Engine::Runc);
    shim.ask_to_shut_down();
    Counter::of(&bundle).await_progress(3);
    shim.end();
}

/// A request to any service. Every request of the task service begins with the container's id.
fn call(shim: &Shim, service: &str, method: &str, id: &str) -> ttrpc::Result<ttrpc::Response> {
    let request = api::StateRequest {
        id: id.into(),
        ..Default::default()
    };
    shim.client().request(Request {
        service: service.into(),
        method: method.into(),
        timeout_nano: shim.context().timeout_nano,
        payload: request
            .write_to_bytes()
            .expect("a message that is complete"),
        ..Request::default()
    })
}

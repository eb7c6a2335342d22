//! Containers that write a megabyte and exit at once: every status and every byte arrives, and
//! output that is read late holds nothing else up.

use std::{sync::mpsc, thread};

use containerd_shim_protos::ttrpc::Code;

use crate::support::{
    containerd::Containerd, host::Host, lab::Release, output::Output, shim::refused,
};

const MEGABYTE: usize = 1 << 20;

for_each_engine! {
    fn every_exit_status_and_every_byte_written_before_it_arrives(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--rm {}", containerd.runtime(engine));
        let count = if containerd.release() == Release::V2_1 { 200 } else { 20 };
        for number in 0..count {
            // From 0 to 255, evenly.
            let status = number * 255 / (count - 1);
            let script = format!("yes line{number} | head -c {MEGABYTE}; exit {status}");
            let run = containerd.run(&options, &format!("c{number:03}")).args(&["sh", "-c", &script]);
            let run = run.run();
            run.exits(status);
            assert!(
                run.stdout == repeated(&format!("line{number}\n")),
                "container {number} wrote {} bytes, or others",
                run.stdout.len()
            );
        }
    }
}

for_each_engine! {
    fn an_exec_is_deleted_when_its_output_is_read_and_its_container_is_free_meanwhile(engine: Engine) {
        // More than a FIFO takes, and less than a FIFO and a pipe.
        const MUCH: usize = 100_000;
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        let output = Output::make(host.disk(), "late");
        let script = format!("yes | head -c {MUCH}; exit 3");
        shim.exec_to(output.path(), "e", &["sh", "-c", &script]).expect("Exec");
        shim.start_exec("e").expect("Start of the exec");
        assert_eq!(shim.wait_exec("e").expect("Wait"), 3);

        let (sender, deleted) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..2 {
                let (sender, shim) = (sender.clone(), &shim);
                scope.spawn(move || sender.send(shim.delete_exec("e")));
            }
            let second = deleted.recv().expect("an answer");
            let message = refused(second, Code::FAILED_PRECONDITION);
            assert!(message.contains("deleted"), "{message}");
            shim.pause().expect("Pause");
            shim.resume().expect("Resume");
            assert!(deleted.try_recv().is_err(), "the output is still there");
            assert_eq!(output.read().len(), MUCH);
            assert_eq!(deleted.recv().expect("an answer").expect("Delete of the exec"), 3);
        });
        shim.end();
    }
}

/// A megabyte of one line.
fn repeated(line: &str) -> Vec<u8> {
    line.bytes().cycle().take(MEGABYTE).collect()
}

//! Containers that write a megabyte and exit at once: every status and every byte arrives.

use crate::support::{containerd::Containerd, lab::Release};

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

/// A megabyte of one line.
fn repeated(line: &str) -> Vec<u8> {
    line.bytes().cycle().take(MEGABYTE).collect()
}

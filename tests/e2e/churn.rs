//! Many containers at once.

use std::{thread, time::Duration};

use crate::support::containerd::Containerd;

for_each_criu_engine! {
    fn containers_whose_ids_begin_alike_do_not_get_into_each_others_way(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        for id in ["c11", "c1", "c", "c111"] {
            containerd.run(&options, id).args(&["sleep", "1000"]).ok();
        }
        for id in ["c", "c1", "c11", "c111"] {
            containerd.remove(id);
        }
    }
}

for_each_gvisor! {
    /// runsc takes the beginning of an id for the id, even beside an exact match: neither could
    /// be told from the other, and a delete could reach the wrong one.
    fn a_container_whose_id_begins_as_anothers_is_refused_and_the_other_runs_on(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        let run = |id| containerd.run(&options, id).args(&["sleep", "1000"]).run();
        run("c11").ok();
        run("d1").ok();
        for id in ["c1", "c", "c111"] {
            let message = run(id).fails();
            assert!(message.contains(id) && message.contains("c11"), "{message}");
            // ctr leaves the container of a task that could not be created.
            containerd.ctr(&format!("container delete {id}")).run();
        }
        assert_eq!(containerd.status("c11").as_deref(), Some("RUNNING"));
        containerd.remove("c11");
        containerd.remove("d1");
    }
}

for_each_engine! {
    fn fifty_containers_in_five_waves_all_exit_with_their_own_status(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--rm {}", containerd.runtime(engine));
        thread::scope(|threads| {
            for wave in 0..5 {
                for number in 0..10 {
                    let (containerd, options, status) = (&containerd, &options, wave * 10 + number);
                    threads.spawn(move || {
                        let run = containerd.run(options, &format!("c{status:02}"));
                        run.deadline(Duration::from_secs(180))
                            .args(&["sh", "-c", &format!("exit {status}")])
                            .exits(status);
                    });
                }
                // The pace that the test is about, not a wait for anything.
                thread::sleep(Duration::from_millis(200));
            }
        });
        // What is left of them, the fixture looks for.
    }
}

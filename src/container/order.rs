//! The order of a container's events, as containerd's documentation demands it
//! (docs/runtime-v2.md, "Events"): start before exit, and the exit of init after those of all
//! execs.
//!
//! Pure bookkeeping: what may be published comes back to the caller. A process may end before
//! its start has been announced, since the engine's call returns after the process has begun.

use std::collections::HashSet;

/// An exit that waits for its turn.
pub(super) trait Exited {
    /// The id of the process: the container's for init, else the exec's.
    fn id(&self) -> &str;
}

/// Decides when an exit of one container's processes may be announced.
#[derive(Debug)]
pub(super) struct Order<E> {
    container: String,
    starting: HashSet<String>,
    running_execs: HashSet<String>,
    announced: HashSet<String>,
    held: Vec<E>,
}

impl<E: Exited> Order<E> {
    /// The order of the events of container `container`.
    pub(super) fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            starting: HashSet::new(),
            running_execs: HashSet::new(),
            announced: HashSet::new(),
            held: Vec::new(),
        }
    }

    /// A process is about to be started: its exit is held until [`Order::started`].
    pub(super) fn starting(&mut self, id: &str) {
        self.starting.insert(id.to_owned());
    }

    /// The start was announced. Gives the exits that may follow it now.
    pub(super) fn started(&mut self, id: &str) -> Vec<E> {
        self.starting.remove(id);
        if id != self.container && !self.announced.contains(id) {
            self.running_execs.insert(id.to_owned());
        }
        self.release()
    }

    /// The start failed. An exec that never ran has no exit; init has one, since the task was
    /// there before.
    pub(super) fn not_started(&mut self, id: &str) -> Vec<E> {
        self.starting.remove(id);
        if id != self.container {
            self.held.retain(|exit| exit.id() != id);
        }
        self.release()
    }

    /// A process has ended. Gives the exits that may be announced now, in order.
    pub(super) fn exited(&mut self, exit: E) -> Vec<E> {
        if self.announced.insert(exit.id().to_owned()) {
            self.held.push(exit);
        }
        self.release()
    }

    /// The container is about to be deleted: nothing is held back any longer.
    pub(super) fn flush(&mut self) -> Vec<E> {
        self.starting.clear();
        self.running_execs.clear();
        self.release()
    }

    /// An exec was deleted, and its id may be used anew.
    pub(super) fn forget(&mut self, id: &str) {
        self.announced.remove(id);
        self.running_execs.remove(id);
    }

    fn release(&mut self) -> Vec<E> {
        let (mut free, kept): (Vec<E>, Vec<E>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|exit| exit.id() != self.container && !self.starting.contains(exit.id()));
        self.held = kept;
        for exit in &free {
            self.running_execs.remove(exit.id());
        }
        let init_may_go = self.running_execs.is_empty() && self.starting.is_empty();
        if init_may_go && let Some(init) = self.held.iter().position(|e| e.id() == self.container) {
            free.push(self.held.remove(init));
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Exited for &str {
        fn id(&self) -> &str {
            self
        }
    }

    #[test]
    fn an_exit_waits_for_the_announcement_of_its_start() {
        let mut order = Order::new("c");
        order.starting("c");
        assert!(order.exited("c").is_empty());
        assert_eq!(order.started("c"), ["c"]);
    }

    #[test]
    fn the_exit_of_init_waits_for_those_of_its_execs() {
        let mut order = Order::new("c");
        order.starting("e");
        order.started("e");
        assert!(order.exited("c").is_empty());
        assert_eq!(order.exited("e"), ["e", "c"]);
    }

    #[test]
    fn the_exit_of_init_waits_for_an_exec_that_is_being_started() {
        let mut order = Order::new("c");
        order.starting("e");
        assert!(order.exited("c").is_empty());
        assert_eq!(order.not_started("e"), ["c"]);
    }

    #[test]
    fn an_exec_that_never_started_has_no_exit() {
        let mut order = Order::new("c");
        order.starting("e");
        assert!(order.exited("e").is_empty());
        assert!(order.not_started("e").is_empty());
    }

    #[test]
    fn an_exit_is_announced_once() {
        let mut order = Order::new("c");
        assert_eq!(order.exited("c"), ["c"]);
        assert!(order.exited("c").is_empty());
    }

    #[test]
    fn a_delete_holds_nothing_back() {
        let mut order = Order::new("c");
        order.starting("e");
        order.started("e");
        assert!(order.exited("c").is_empty());
        assert_eq!(order.flush(), ["c"]);
    }

    #[test]
    fn the_id_of_a_deleted_exec_can_be_used_again() {
        let mut order = Order::new("c");
        for _ in 0..2 {
            order.starting("e");
            order.started("e");
            assert_eq!(order.exited("e"), ["e"]);
            order.forget("e");
        }
    }
}

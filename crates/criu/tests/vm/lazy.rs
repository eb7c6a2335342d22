//! A dump that is to serve its memory, for which CRIU needs larger pipes than the lab has rights to.

use std::fs;

use async_trait::async_trait;
use stasis_criu::{Error, Hook, HookResult, Notify, options::PageServer};

use crate::victim::{self, Victim};

/// Refuses a dump when its pages can be fetched, and says at which hooks it was.
#[derive(Default)]
struct Refusal(Vec<Hook>);

#[async_trait]
impl Notify for Refusal {
    async fn post_dump(&mut self) -> HookResult {
        self.0.push(Hook::PostDump);
        Ok(())
    }

    async fn status_ready(&mut self) -> HookResult {
        self.0.push(Hook::StatusReady);
        Err("nobody comes".into())
    }
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_is_given_up_when_its_pages_could_be_fetched() {
    let criu = crate::criu();
    let mut victim = Victim::start(&["--memory", "8", "--children", "1"]);
    let tree = victim.tree();
    let images = crate::directory();
    let options = victim::options(images.path())
        .pid(victim.pid())
        .lazy_pages(true)
        .page_server(PageServer::listening(27));
    let mut refusal = Refusal::default();
    let error = criu.dump(&options).notify(&mut refusal).await.unwrap_err();
    let Error::Hook {
        hook, source, left, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*hook, Hook::StatusReady);
    assert_eq!(source.to_string(), "nobody comes");
    assert!(left.is_empty(), "{left}");
    assert_eq!(refusal.0, [Hook::PostDump, Hook::StatusReady]);
    victim.is_well(&tree);
    let names = fs::read_dir(images.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["dump.log"]);
}

//! Pre-dumps, each with the one before as its parent, and the dump after them.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use stasis_criu::{Connection, Criu, Error, Leftover, NoHooks, Options, Pages};

use crate::{
    memory::Memory,
    victim::{self, Victim},
};

/// The dump, after pre-dumps from 0 on.
const LAST: usize = 4;
/// Pages that are changed before an image.
const CHANGED: usize = 200;

/// How the images of a chain are asked for.
enum By {
    /// Calls of their own.
    Calls(Criu),
    /// One connection.
    Connection(Connection),
}

impl By {
    async fn pre_dump(&mut self, options: &Options) -> Pages {
        let done = match self {
            Self::Calls(criu) => criu.pre_dump(options).await,
            Self::Connection(connection) => connection.pre_dump(options, &mut NoHooks).await,
        };
        done.unwrap().stats.unwrap().pages
    }

    async fn dump(self, options: &Options) -> Pages {
        let done = match self {
            Self::Calls(criu) => criu.dump(options).await,
            Self::Connection(mut connection) => {
                let done = connection.dump(options, &mut NoHooks).await;
                connection.cleanup().await;
                done
            }
        };
        done.unwrap().stats.unwrap().pages
    }
}

/// Makes a chain of a process whose memory changes, moves it, and restores it twice.
async fn is_made_and_restored(mut by: By) {
    let criu = crate::criu();
    let directory = crate::directory();
    let made = directory.path().join("made");
    let moved = directory.path().join("moved");
    fs::create_dir(&made).unwrap();
    let images = |number: usize| made.join(number.to_string());
    let mut victim = Victim::start(&["--memory", "32"]);
    let tree = victim.tree();
    let memory = Memory::of(victim.pid());
    let options = |number| {
        fs::create_dir(images(number)).unwrap();
        let options = victim::options(images(number))
            .pid(tree[0])
            .track_mem(true)
            .dedup_on_dump(true);
        match number {
            0 => options,
            _ => options.parent_img(format!("../{}", number - 1)),
        }
    };

    let first = by.pre_dump(&options(0)).await;
    assert!(first.written >= memory.pages() as u64, "{first:?}");
    for number in 1..LAST {
        // Half of it is what was changed before the image before.
        memory.fill(number * CHANGED / 2, CHANGED, number.try_into().unwrap());
        let parent = on_disk(&images(number - 1));
        let pages = by.pre_dump(&options(number)).await;
        is_what_changed(pages, first);
        assert!(
            on_disk(&images(number - 1)) < parent,
            "nothing was taken out"
        );
        victim.is_well(&tree);
    }
    memory.fill(LAST * CHANGED / 2, CHANGED, LAST.try_into().unwrap());
    let contents = memory.read();
    is_what_changed(by.dump(&options(LAST)).await, first);
    assert!(victim.has_ended());

    fs::rename(&made, &moved).unwrap();
    for _ in 0..2 {
        let options = victim::options(moved.join(LAST.to_string()));
        let restored = criu.restore(&options).await.unwrap();
        assert!(memory.read() == contents, "the memory is another");
        victim.is_well(&tree);
        // The second time it is the same image.
        crate::end(restored.pid);
    }
}

/// The kernel tracks huge pages as a whole, so that it is more than was changed.
fn is_what_changed(pages: Pages, first: Pages) {
    let least = CHANGED as u64;
    assert!(
        (least..first.written / 4).contains(&pages.written),
        "{pages:?} after {first:?}"
    );
}

/// What the pages of these images take on the disk.
fn on_disk(images: &Path) -> u64 {
    let files = fs::read_dir(images).unwrap().map(Result::unwrap);
    let pages = files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b"pages-"));
    pages
        .map(|file| file.metadata().unwrap().blocks() * 512)
        .sum()
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_chain_of_five_is_made_by_calls_and_restored_twice() {
    is_made_and_restored(By::Calls(crate::criu())).await;
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_chain_of_five_is_made_over_one_connection_and_restored_twice() {
    let connection = crate::criu().prepare().await.unwrap();
    is_made_and_restored(By::Connection(connection)).await;
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn what_changed_before_a_failed_pre_dump_is_not_left_out_in_silence() {
    let criu = crate::criu();
    let directory = crate::directory();
    let images = ["0", "1", "2", "3"].map(|name| directory.path().join(name));
    for images in &images {
        fs::create_dir(images).unwrap();
    }
    let mut victim = Victim::start(&["--memory", "32"]);
    let tree = victim.tree();
    let memory = Memory::of(victim.pid());
    let options = |number: usize| {
        let options = victim::options(&images[number]).pid(tree[0]);
        options.track_mem(true)
    };
    criu.pre_dump(&options(0)).await.unwrap();

    memory.fill(100, CHANGED, 7);
    let (none, kind, size) = (c"none", c"tmpfs", c"size=64k");
    mount(none, &images[1], kind, MountFlags::empty(), size).unwrap();
    let failed = criu.pre_dump(&options(1).parent_img("../0")).await;
    unmount(&images[1], UnmountFlags::empty()).unwrap();
    let error = failed.unwrap_err();
    assert_eq!(error.left(), [Leftover::Untracked], "{error}");
    victim.is_well(&tree);

    // Nor does one in its place help that fails in its turn.
    let cancelled = criu.pre_dump(&options(0)).until(async {}).await;
    assert!(matches!(cancelled, Err(Error::Cancelled { .. })));
    victim.is_well(&tree);

    let refused = criu.dump(&options(2).parent_img("../0")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Options(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("without a parent"),
        "{refused}"
    );
    victim.is_well(&tree);

    let contents = memory.read();
    criu.pre_dump(&options(2)).await.unwrap();
    criu.dump(&options(3).parent_img("../2")).await.unwrap();
    assert!(victim.has_ended());
    let restored = criu.restore(&victim::options(&images[3])).await.unwrap();
    assert!(memory.read() == contents, "the memory is another");
    crate::end(restored.pid);
}

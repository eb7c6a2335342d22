//! A setting of every option that has a setter, with values that CRIU would take.

use std::{fs, path::Path, time::Duration};

use super::descriptor;
use crate::options::{
    CgroupMode, CgroupProperties, CgroupRoot, CgroupStrategy, CpuCapabilities, Dir, EmptyNamespace,
    External, GhostLimit, InheritedFd, JoinNamespace, Joinable, LogLevel, LsmProfile, NetworkLock,
    Options, PageServer, PreDumpMode, Tls,
};

/// A setting.
pub(super) struct Sample {
    /// The number of the field that it is about.
    pub(super) field: u32,
    /// The numbers of fields that come or go with it.
    pub(super) also: &'static [u32],
    /// How it is set.
    pub(super) set: Box<dyn Fn(Options) -> Options>,
}

fn sample(field: u32, set: impl Fn(Options) -> Options + 'static) -> Sample {
    Sample {
        field,
        also: &[],
        set: Box::new(set),
    }
}

fn sample_with(
    field: u32,
    also: &'static [u32],
    set: impl Fn(Options) -> Options + 'static,
) -> Sample {
    Sample {
        also,
        ..sample(field, set)
    }
}

/// One for every field. Files that they name are made in `scratch`, and so is a parent image.
pub(super) fn samples(scratch: &Path) -> Vec<Sample> {
    let file = scratch.join("file");
    fs::write(&file, "").unwrap();
    let parent = scratch.join("parent-image");
    fs::create_dir_all(&parent).unwrap();
    fs::write(parent.join("pagemap-1.img"), "").unwrap();
    let directory = scratch.to_owned();
    let here = || directory.clone();
    let (work, root, freeze, yard) = (here(), here(), here(), here());
    let one = || file.clone();
    let (config, props, cacert, cacrl, cert, key) = (one(), one(), one(), one(), one(), one());
    vec![
        sample(2, |o| o.pid(4711)),
        sample(3, |o| o.leave_running(true)),
        sample(4, |o| o.ext_unix_sk(true)),
        sample(5, |o| o.tcp_established(true)),
        sample(6, |o| o.evasive_devices(true)),
        sample(7, |o| o.shell_job(true)),
        sample(8, |o| o.file_locks(true)),
        sample(9, |o| o.log_level(LogLevel::Information)),
        sample(10, |o| o.log_file("other.log")),
        sample(11, |o| {
            o.page_server(PageServer::at([192, 0, 2, 7].into(), 27))
        }),
        sample(13, move |o| o.root(&root)),
        sample(14, |o| o.parent_img("parent-image")),
        sample(15, |o| o.track_mem(true)),
        sample(16, |o| o.dedup_on_dump(true)),
        sample(16, |o| o.spend_image_on_restore(true)),
        sample(17, move |o| o.work_dir(&work)),
        sample(18, |o| o.link_remap(true)),
        sample(20, |o| {
            o.cpu_cap(CpuCapabilities::FPU | CpuCapabilities::INS)
        }),
        sample(21, |o| o.force_irmap(true)),
        sample(22, |o| o.exec_cmd(["true", "-x"])),
        sample(25, |o| {
            o.cgroup_root(CgroupRoot::of("cpu", "/one"))
                .cgroup_root(CgroupRoot::all("/all"))
        }),
        sample(26, |o| o.rst_sibling(true)),
        sample(27, |o| {
            o.inherit_fd(InheritedFd::new("pipe:[4711]", descriptor()))
        }),
        sample(28, |o| o.auto_ext_mnt(true)),
        sample(29, |o| o.ext_sharing(true)),
        sample(30, |o| o.ext_masters(true)),
        sample(31, |o| o.skip_mnt("/sys").skip_mnt("/proc/scsi")),
        sample(32, |o| o.enable_fs("hugetlbfs").enable_fs("tracefs")),
        sample_with(34, &[24], |o| o.manage_cgroups(CgroupMode::Strict)),
        sample(35, |o| o.ghost_limit(GhostLimit::bytes(1 << 26))),
        sample(36, |o| {
            o.irmap_scan_path("/etc").irmap_scan_path("/var/lib")
        }),
        sample(37, |o| {
            o.external(External::mount("/etc/a b", "x"))
                .external("net[4026532281]:extRootNetNS".parse().unwrap())
        }),
        sample(38, |o| o.empty_ns(EmptyNamespace::Network)),
        sample(39, |o| {
            o.join_ns(JoinNamespace::of_process(Joinable::Uts, std::process::id()))
                .join_ns(JoinNamespace::user("/proc/self/ns/user", 0, 5))
        }),
        sample(41, |o| {
            let props = CgroupProperties::default();
            o.cgroup_props(props.controller("cpu", CgroupStrategy::Merge, ["cpu.shares"]))
        }),
        sample(42, move |o| o.cgroup_props_file(&props)),
        sample(43, |o| {
            o.cgroup_dump_controller("cpu")
                .cgroup_dump_controller("memory")
        }),
        sample(44, move |o| o.freeze_cgroup(&freeze)),
        sample(45, |o| o.timeout(Duration::from_secs(42))),
        sample(46, |o| o.tcp_skip_in_flight(true)),
        sample(47, |o| o.weak_sysctls(true)),
        sample(48, |o| o.lazy_pages(true)),
        sample(49, |o| o.status_fd(descriptor())),
        sample(50, |o| o.orphan_pts_master(true)),
        sample(51, move |o| o.config_file(&config)),
        sample(52, |o| o.tcp_close(true)),
        sample(53, |o| o.lsm_profile(LsmProfile::AppArmor("a//&b".into()))),
        sample_with(54, &[58], move |o| o.tls(Tls::default().cacert(&cacert))),
        sample_with(55, &[58], move |o| o.tls(Tls::default().cacrl(&cacrl))),
        sample_with(56, &[58], move |o| o.tls(Tls::default().cert(&cert))),
        sample_with(57, &[58], move |o| o.tls(Tls::default().key(&key))),
        sample(58, |o| o.tls(Tls::default())),
        sample_with(59, &[58], |o| o.tls(Tls::default().no_cn_verify(true))),
        sample(60, move |o| o.cgroup_yard(&yard)),
        sample(61, |o| o.pre_dump_mode(PreDumpMode::Read)),
        sample(62, |o| o.pidfd_store(descriptor())),
        sample(63, |o| {
            o.lsm_mount_context("system_u:object_r:container_file_t:s0:c1,c2")
        }),
        sample(64, |o| o.network_lock(NetworkLock::Nftables)),
        sample(65, |o| o.mntns_compat_mode(true)),
        sample(66, |o| o.skip_file_rwx_check(true)),
        sample(67, |o| o.unprivileged(true)),
        sample(68, |_| Options::new(Dir::Named("/var/lib/images".into()))),
        sample(69, |o| o.leave_stopped(true)),
        sample(70, |o| o.display_stats(true)),
        sample_with(71, &[10], |o| o.log_to_stderr(true)),
    ]
}

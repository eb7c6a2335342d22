//! What is said of the machine. Whatever cannot be had is left out: nothing depends on it.

use std::{
    fs::{self, File},
    io::BufReader,
    path::Path,
};

use rustix::system::uname;

use stasis_linux::{file::head, lines::each_line};

use super::{Cpu, Host, Memory};

impl Host {
    /// This machine.
    #[must_use]
    pub fn read() -> Self {
        let name = uname();
        let cpuinfo = fields("/proc/cpuinfo", ':');
        let is_guest = field(&cpuinfo, "flags")
            .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        Self {
            id: ["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]
                .iter()
                .find_map(|file| line(Path::new(file)))
                .map(|id| id.to_lowercase())
                .unwrap_or_default(),
            mac: mac().unwrap_or_default(),
            hostname: name.nodename().to_string_lossy().into_owned(),
            os: String::from("linux"),
            platform: field(&fields("/etc/os-release", '='), "ID")
                .map(|id| id.trim_matches('"').to_owned())
                .unwrap_or_default(),
            kernel_version: name.release().to_string_lossy().into_owned(),
            kernel_arch: name.machine().to_string_lossy().into_owned(),
            virtualization_system: String::new(),
            virtualization_role: if is_guest { "guest" } else { "" }.to_owned(),
            cpu: cpu(&cpuinfo),
            memory: memory(),
        }
    }
}

fn cpu(cpuinfo: &[(String, String)]) -> Option<Cpu> {
    let all = cpuinfo.iter().filter(|(name, _)| name == "processor");
    let count = u32::try_from(all.count()).ok().filter(|count| *count > 0)?;
    let text = |name| field(cpuinfo, name).unwrap_or_default().to_owned();
    Some(Cpu {
        count,
        cpu: text("processor").parse().unwrap_or_default(),
        vendor_id: text("vendor_id"),
        family: text("cpu family"),
        physical_id: text("physical id"),
    })
}

fn memory() -> Option<Memory> {
    let meminfo = fields("/proc/meminfo", ':');
    let bytes = |name: &str| {
        let kibibytes: u64 = field(&meminfo, name)?
            .trim_end_matches(" kB")
            .parse()
            .ok()?;
        kibibytes.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    let unused = ["MemFree", "Buffers", "Cached"];
    let unused = unused.into_iter().filter_map(bytes).sum();
    Some(Memory {
        total,
        available: bytes("MemAvailable")?,
        used: total.saturating_sub(unused),
    })
}

/// The hardware address of the first device, by name, that has one.
fn mac() -> Option<String> {
    let mut devices: Vec<_> = fs::read_dir("/sys/class/net")
        .ok()?
        .filter_map(|device| Some(device.ok()?.path()))
        .collect();
    devices.sort();
    devices
        .iter()
        .filter_map(|device| line(&device.join("address")))
        .find(|address| address.bytes().any(|byte| !b"0:".contains(&byte)))
}

/// A file of one line, without the blanks around it.
fn line(path: &Path) -> Option<String> {
    let text = head(File::open(path).ok()?, 4096).ok()?;
    let line = String::from_utf8_lossy(&text).trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// A file of names and values. Of a machine with very many processors the first will do.
fn fields(path: &str, between: char) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read until an error is what there is.
        let _ = each_line(BufReader::new(file), |line| {
            let line = String::from_utf8_lossy(line);
            if let Some((name, value)) = line.split_once(between) {
                fields.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            Ok(())
        });
    }
    fields
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

//! Numbers of the process itself, as the Prometheus client libraries name them; read from the kernel.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, Labels};

/// CPU time, memory and descriptors. What the system does not tell is left out.
pub(crate) fn families() -> Vec<Family> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let (virtual_bytes, resident_bytes) = memory_bytes().unzip();
    [
        Some(
            Family::counter("process_cpu_seconds", "CPU time used")
                .with(Labels::new(), cpu_seconds),
        ),
        gauge("process_resident_memory_bytes", "Memory in RAM", resident_bytes),
        gauge("process_virtual_memory_bytes", "Address space in use", virtual_bytes),
        gauge("process_open_fds", "Open file descriptors", open_descriptors()),
        gauge(
            "process_max_fds",
            "File descriptors allowed",
            getrlimit(Resource::Nofile).current.map(|count| count as f64),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn gauge(name: &'static str, help: &'static str, number: Option<f64>) -> Option<Family> {
    number.map(|number| Family::gauge(name, help).with(Labels::new(), number))
}

/// Address space and resident part: the first two numbers of statm, in pages.
fn memory_bytes() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().map_while(|word| word.parse::<f64>().ok());
    let page_bytes = rustix::param::page_size() as f64;
    Some((pages.next()? * page_bytes, pages.next()? * page_bytes))
}

fn open_descriptors() -> Option<f64> {
    // The listing itself holds one.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_numbers() {
        assert_eq!(families().len(), 5);
        let (virtual_bytes, resident_bytes) = memory_bytes().unwrap();
        assert!(virtual_bytes > resident_bytes && resident_bytes > 100_000.0);
        assert!(open_descriptors().unwrap() >= 3.0);
    }
}

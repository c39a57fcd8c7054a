//! What the system says about a broker process: resident memory and open file handles. Linux only, as is the broker.

use std::io;

use crate::Broker;

impl Broker {
    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is gone or the system does not say.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no resident memory is told"))
    }

    /// Open file handles.
    ///
    /// # Errors
    /// When the process is gone or the system does not say.
    pub fn open_files(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }
}

//! How much memory this process has needed.
//!
//! Not responsible for bounding it. Linux alone tells.

/// The most memory that was resident at once since the process began, in bytes; none where the system does not tell.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    const BLOCK: usize = 128 << 20;

    /// Whatever other tests of this process take and give back meanwhile, the peak is never below this block.
    #[test]
    fn memory_that_was_given_back_still_counts() {
        drop(std::hint::black_box(vec![1_u8; BLOCK]));
        assert!(super::peak_resident_bytes().unwrap() >= BLOCK as u64);
    }
}

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
    #[test]
    fn memory_that_was_given_back_still_counts() {
        let before = super::peak_resident_bytes().unwrap();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        assert!(super::peak_resident_bytes().unwrap() >= before + (32 << 20));
    }
}

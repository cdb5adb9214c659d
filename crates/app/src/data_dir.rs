//! The data directory: made on the first start, for its owner alone.
//!
//! Not responsible for what lies in it: `secrets` and `database` know their files.

use std::io;
use std::path::Path;

/// Makes the directory and those above it, unless they are there. Mode 0700: it holds secrets and addresses.
///
/// # Errors
/// It cannot be made.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

//! A file that can be read from its start again and again.
//!
//! What cannot (standard input, a pipe) is kept in a nameless file of the data directory first: no kill leaves it
//! behind. Not responsible for what the file holds.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;
use std::sync::Arc;

use crate::problem::{Place, Problem};

/// An open list. Clones share one place in the file, so it has one reader at a time.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    file: Arc<File>,
}

impl Source {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self { name, file: Arc::new(file) }),
            Err(error) => Err(Problem::new(format!("failed to open: {error}")).at(Place::file(name))),
        }
    }

    /// Keeps all that `input` gives in a nameless file below `dir`, which only this process can read.
    ///
    /// # Errors
    /// Either cannot be read or written.
    pub(crate) fn keep(name: &str, mut input: impl Read, dir: &Path) -> Result<Self, Problem> {
        let kept = crate::data_dir::create(dir).and_then(|()| tempfile::tempfile_in(dir)).and_then(|mut file| {
            io::copy(&mut input, &mut file)?;
            Ok(file)
        });
        match kept {
            Ok(file) => Ok(Self { name: name.to_owned(), file: Arc::new(file) }),
            Err(error) => {
                Err(Problem::new(format!("failed to keep a copy in the data directory: {error}")).at(Place::file(name)))
            }
        }
    }

    /// Whether it is a file that can be read twice.
    pub(crate) fn is_regular(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.is_file())
    }

    /// As the person named it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The file at its start.
    pub(super) fn start(&self) -> Result<File, Problem> {
        let again = self.file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
        again.map_err(|error| Problem::new(format!("failed to read: {error}")))
    }
}

/// As a stream, from where it stands.
impl Read for &Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        (&*self.file).read(out)
    }
}

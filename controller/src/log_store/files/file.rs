//! The bytes of one log on disk, and beside them where records begin. Must never know who reads or follows.

use longshore_common::logs::whole_records;
use std::{
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// About this far apart are the offsets remembered for searches.
const BOUNDARY_EVERY: u64 = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Stored {
    /// `None`: nothing was ever stored.
    pub(super) file: Option<fs::File>,
    pub(super) end: u64,
    /// Offsets at which records begin.
    pub(super) boundaries: Vec<u64>,
}

impl Stored {
    /// Opens what is there; never creates, since asking for a log must not make one.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut boundaries = load_index(&index_of(path), length)?;
        boundaries.insert(0, 0);
        let last = *boundaries.last().expect("zero was put there");
        let mut rest = vec![0; usize::try_from(length - last).map_err(io::Error::other)?];
        file.read_exact_at(&mut rest, last)?;
        let whole = whole_records(&rest).unwrap_or(0);
        let end = last + whole as u64;
        if end < length {
            tracing::warn!(path = %path.display(), cut = length - end, "cutting off the torn end of a log");
            file.set_len(end)?;
        }
        Ok(Self { file: Some(file), end, boundaries })
    }

    /// Appends whole records.
    pub(super) fn write(&mut self, path: &Path, fresh: &[u8]) -> io::Result<()> {
        let boundary = self.end >= self.boundaries.last().copied().unwrap_or(0) + BOUNDARY_EVERY;
        if boundary {
            append_index(&index_of(path), self.end)?;
            self.boundaries.push(self.end);
        }
        if self.boundaries.is_empty() {
            self.boundaries.push(0);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(path)?),
        };
        if let Err(error) = file.write_all_at(fresh, self.end) {
            // Half a record must not stay: the next try writes at the same place.
            file.set_len(self.end)?;
            return Err(error);
        }
        self.end += fresh.len() as u64;
        Ok(())
    }
}

/// Gone already is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for path in [&index_of(path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<fs::File> {
    let open = || fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            open()
        }
        opened => opened,
    }
}

fn index_of(path: &Path) -> PathBuf {
    path.with_extension("index")
}

/// Offsets as little-endian u64; what does not count up below `length` is not believed.
fn load_index(path: &Path, length: u64) -> io::Result<Vec<u64>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (whole, _) = bytes.as_chunks::<8>();
    let mut offsets = Vec::with_capacity(whole.len() + 1);
    for offset in whole.iter().map(|eight| u64::from_le_bytes(*eight)) {
        if offset <= offsets.last().copied().unwrap_or(0) || offset > length {
            break;
        }
        offsets.push(offset);
    }
    Ok(offsets)
}

fn append_index(path: &Path, offset: u64) -> io::Result<()> {
    use io::Write as _;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(&offset.to_le_bytes())
}

//! The space on the disk that holds a node's folder. Sealed bytes never use the reserve, which belongs to the database;
//! and when somebody else fills the disk, a file that only occupies space is removed, so that what ends processes can
//! still be written.

use crate::core::limits;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Measures free and total bytes of a disk.
pub type Measure = Box<dyn Fn() -> io::Result<(u64, u64)> + Send + Sync>;

/// The space of a node.
pub struct Space {
    measure: Measure,
    reserve: u64,
    ballast: PathBuf,
    /// Bytes that downloads in progress have yet to write.
    promised: AtomicU64,
}

/// Too little space for a download.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "it needs {} MiB, but the disk has room for {} MiB (a reserve of {} MiB is kept, `disk.reserve_mib`)",
    needed >> 20, available >> 20, reserve >> 20
)]
pub struct TooFull {
    needed: u64,
    available: u64,
    reserve: u64,
    /// Whether it would be too little even without the downloads in progress.
    pub without_others: bool,
}

impl Space {
    /// The space of the disk that holds `folder`.
    pub fn new(folder: &Path, reserve: u64) -> Self {
        let at = folder.to_owned();
        Self::measured(folder, reserve, Box::new(move || of(&at)))
    }

    /// The space that `measure` measures.
    pub fn measured(folder: &Path, reserve: u64, measure: Measure) -> Self {
        Self { measure, reserve, ballast: folder.join("ballast"), promised: AtomicU64::new(0) }
    }

    /// Free and total bytes.
    pub fn bytes(&self) -> io::Result<(u64, u64)> {
        (self.measure)()
    }

    /// The reserve: on a small disk, a quarter of it.
    fn reserve_of(&self, total: u64) -> u64 {
        self.reserve.min(total / 4)
    }

    /// Bytes of a file between two checks of the space.
    pub(super) fn step(&self) -> u64 {
        let reserve = self.bytes().map_or(u64::MAX, |(_, total)| self.reserve_of(total));
        limits::DISK_CHECK_BYTES.min(reserve / 4)
    }

    /// Fails if sealed bytes would use the reserve.
    pub fn check(&self) -> io::Result<()> {
        let (free, total) = self.bytes()?;
        let reserve = self.reserve_of(total);
        if free >= reserve {
            return Ok(());
        }
        let (free, reserve) = (free >> 20, reserve >> 20);
        let reason = format!("only {free} MiB of the disk are free, less than the reserve of {reserve} MiB");
        Err(io::Error::new(io::ErrorKind::StorageFull, reason))
    }

    /// Sets space aside for a download of `needed` bytes.
    pub fn promise(&self, needed: u64) -> Result<Promised<'_>, TooFull> {
        // An unmeasurable disk fails later, when it is written to.
        let (free, total) = self.bytes().unwrap_or((u64::MAX, u64::MAX));
        let reserve = self.reserve_of(total);
        let mut available = 0;
        let enough = |promised: u64| {
            available = free.saturating_sub(reserve).saturating_sub(promised);
            (needed <= available).then(|| promised + needed)
        };
        match self.promised.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enough) {
            Ok(_) => Ok(Promised { space: self, left: needed }),
            Err(_) => {
                let without_others = needed > free.saturating_sub(reserve);
                Err(TooFull { needed, available, reserve, without_others })
            }
        }
    }

    /// Why only what ends processes may be written: the disk is full. The ballast is removed then.
    pub fn exhausted(&self) -> Option<String> {
        let (free, total) = self.bytes().ok()?;
        let ballast = ballast_of(total);
        if free >= 2 * ballast || (free >= ballast && self.has_ballast(total)) {
            return None;
        }
        let _ = fs::remove_file(&self.ballast);
        Some(format!("the disk is full: {} MiB are free; make room", free >> 20))
    }

    /// A file without its size is a leftover that occupies nothing.
    fn has_ballast(&self, total: u64) -> bool {
        fs::metadata(&self.ballast).is_ok_and(|file| file.len() == ballast_of(total))
    }

    /// Creates the ballast, if there is room for it.
    pub fn hold_ballast(&self) {
        let Ok((free, total)) = self.bytes() else { return };
        if self.has_ballast(total) || free < self.reserve_of(total) {
            return;
        }
        let written = File::create(&self.ballast).and_then(|file| {
            let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ballast_of(total));
            allocated.map_err(io::Error::from)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&self.ballast);
            tracing::info!(%error, "no space could be set aside for a full disk");
        }
    }
}

/// What is set aside of a disk.
fn ballast_of(total: u64) -> u64 {
    limits::DISK_BALLAST_BYTES.min(total / 16)
}

/// Free and total bytes of the file system that holds `folder`.
fn of(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

/// Space that is set aside, until it is dropped.
pub struct Promised<'a> {
    space: &'a Space,
    left: u64,
}

impl Promised<'_> {
    /// So many bytes were written, and are no longer free.
    pub fn used(&mut self, bytes: u64) {
        let used = bytes.min(self.left);
        self.left -= used;
        self.space.promised.fetch_sub(used, Ordering::SeqCst);
    }
}

impl Drop for Promised<'_> {
    fn drop(&mut self) {
        self.space.promised.fetch_sub(self.left, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    fn disk(folder: &Path, free: &Arc<AtomicU64>) -> Space {
        let free = free.clone();
        Space::measured(folder, 1_024 * MIB, Box::new(move || Ok((free.load(Ordering::SeqCst), 1 << 40))))
    }

    #[test]
    fn downloads_share_what_is_free_beyond_the_reserve() {
        let (folder, free) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(1_124 * MIB)));
        let space = disk(folder.path(), &free);
        assert!(space.promise(1 << 40).is_err());
        let mut first = space.promise(60 * MIB).unwrap();
        assert!(space.promise(60 * MIB).is_err());
        let second = space.promise(40 * MIB).unwrap();
        // What is written is no longer free, and no longer promised.
        free.fetch_sub(50 * MIB, Ordering::SeqCst);
        first.used(50 * MIB);
        assert!(space.promise(1).is_err());
        drop((first, second));
        let refused = space.promise(51 * MIB).map(drop).unwrap_err().to_string();
        assert!(refused.starts_with("it needs 51 MiB, but the disk has room for 50 MiB"), "{refused}");
        space.promise(50 * MIB).unwrap();
        space.check().unwrap();
        free.store(1_023 * MIB, Ordering::SeqCst);
        assert_eq!(space.check().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_full_disk_gives_up_the_ballast() {
        let (folder, free) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(1 << 40)));
        let space = disk(folder.path(), &free);
        let ballast = folder.path().join("ballast");
        space.hold_ballast();
        assert_eq!(fs::metadata(&ballast).unwrap().len(), limits::DISK_BALLAST_BYTES);
        free.store(70 * MIB, Ordering::SeqCst);
        assert!(space.exhausted().is_none() && ballast.exists());
        free.store(MIB, Ordering::SeqCst);
        assert!(space.exhausted().unwrap().contains("1 MiB are free") && !ballast.exists());
        // The room that it gave is not for everything.
        free.store(65 * MIB, Ordering::SeqCst);
        assert!(space.exhausted().is_some());
        space.hold_ballast();
        assert!(!ballast.exists());
        free.store(1 << 40, Ordering::SeqCst);
        assert!(space.exhausted().is_none());
        space.hold_ballast();
        assert!(ballast.exists());
    }
}

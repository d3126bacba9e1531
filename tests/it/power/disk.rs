//! A disk as POSIX promises it, and no better: what was written to a file is kept after a power loss once the file was
//! synced, and a name once its folder was. Until then each write and each name may be there or not, in any order.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Bytes that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

pub const ROOT: u64 = 1;

/// Content of a file or a folder.
#[derive(Debug, Clone)]
pub enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<String, u64>),
}

#[derive(Debug, Clone)]
pub struct Inode {
    pub content: Content,
    pub mode: u32,
}

/// A name in a folder: the folder's inode and the name.
pub type Place = (u64, String);

/// A change of the disk.
#[derive(Debug, Clone)]
pub enum Step {
    /// A new inode, without a name.
    Make(u64, Inode),
    Write {
        inode: u64,
        at: usize,
        data: Vec<u8>,
    },
    Resize(u64, usize),
    Mode(u64, u32),
    Name(Place, u64),
    Unname(Place),
    Rename {
        from: Place,
        to: Place,
        inode: u64,
    },
    /// The file or folder was synced.
    Sync(u64),
}

impl Step {
    /// The inode whose sync makes this step last.
    fn lasts_by(&self) -> Option<u64> {
        match self {
            Self::Write { inode, .. } | Self::Resize(inode, _) | Self::Mode(inode, _) => Some(*inode),
            Self::Name((folder, _), _) | Self::Unname((folder, _)) => Some(*folder),
            Self::Rename { to: (folder, _), .. } => Some(*folder),
            Self::Make(..) | Self::Sync(_) => None,
        }
    }

    fn is_name(&self) -> bool {
        matches!(self, Self::Name(..) | Self::Unname(_) | Self::Rename { .. })
    }
}

/// What a power loss leaves of the steps that were not synced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Everything: a process was killed, but the disk had power.
    Nothing,
    /// No step.
    All,
    /// Names, but no contents: files are empty or old.
    Contents,
    /// Contents, but no names.
    Names,
    /// Sectors, each by the toss of a coin; all names are kept.
    Sectors(u64),
    /// Names and sectors, each by the toss of a coin.
    Some(u64),
}

#[derive(Debug, Clone)]
pub struct Disk {
    inodes: HashMap<u64, Inode>,
    next: u64,
}

impl Default for Disk {
    fn default() -> Self {
        let root = Inode { content: Content::Folder(BTreeMap::new()), mode: 0o700 };
        Self { inodes: HashMap::from([(ROOT, root)]), next: ROOT + 1 }
    }
}

impl Disk {
    /// Reads a folder of the machine.
    pub fn read(folder: &Path) -> Self {
        let mut disk = Self::default();
        disk.read_into(folder, ROOT);
        disk
    }

    fn read_into(&mut self, from: &Path, folder: u64) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (meta, inode) = (entry.metadata().unwrap(), self.new_inode());
            let content = match meta.is_dir() {
                true => Content::Folder(BTreeMap::new()),
                false => Content::File(std::fs::read(entry.path()).unwrap()),
            };
            self.inodes.insert(inode, Inode { content, mode: meta.permissions().mode() & 0o777 });
            self.names(folder).unwrap().insert(entry.file_name().into_string().unwrap(), inode);
            if meta.is_dir() {
                self.read_into(&entry.path(), inode);
            }
        }
    }

    /// Writes the disk to a folder of the machine, in place of what it holds.
    pub fn write(&self, to: &Path) {
        for entry in std::fs::read_dir(to).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        self.write_folder(ROOT, to, &mut HashMap::new());
    }

    fn write_folder(&self, folder: u64, to: &Path, written: &mut HashMap<u64, std::path::PathBuf>) {
        let Content::Folder(names) = &self.inodes[&folder].content else { unreachable!() };
        for (name, inode) in names {
            let (path, found) = (to.join(name), &self.inodes[inode]);
            if let Some(first) = written.get(inode) {
                std::fs::hard_link(first, &path).unwrap();
                continue;
            }
            match &found.content {
                Content::Folder(_) => {
                    DirBuilder::new().mode(0o700).create(&path).unwrap();
                    self.write_folder(*inode, &path, written);
                }
                Content::File(data) => {
                    File::create(&path).unwrap().write_all(data).unwrap();
                    written.insert(*inode, path.clone());
                }
            }
            std::fs::set_permissions(&path, Permissions::from_mode(found.mode)).unwrap();
        }
    }

    pub fn new_inode(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn inode(&self, inode: u64) -> Option<&Inode> {
        self.inodes.get(&inode)
    }

    /// Number of names of an inode.
    pub fn links(&self, inode: u64) -> u32 {
        let names = |found: &Inode| match &found.content {
            Content::Folder(names) => names.values().filter(|named| **named == inode).count(),
            Content::File(_) => 0,
        };
        self.inodes.values().map(names).sum::<usize>() as u32
    }

    fn names(&mut self, folder: u64) -> Option<&mut BTreeMap<String, u64>> {
        match &mut self.inodes.get_mut(&folder)?.content {
            Content::Folder(names) => Some(names),
            Content::File(_) => None,
        }
    }

    fn data(&mut self, file: u64) -> Option<&mut Vec<u8>> {
        match &mut self.inodes.get_mut(&file)?.content {
            Content::File(data) => Some(data),
            Content::Folder(_) => None,
        }
    }

    /// Takes a step. One whose object was lost does nothing.
    pub fn take(&mut self, step: &Step) {
        self.take_sectors(step, |_| true);
    }

    /// Takes a step, of a write only these sectors.
    fn take_sectors(&mut self, step: &Step, mut keeps: impl FnMut(usize) -> bool) {
        match step {
            Step::Make(inode, new) => {
                self.inodes.insert(*inode, new.clone());
            }
            Step::Write { inode, at, data } => {
                let Some(old) = self.data(*inode) else { return };
                let mut from = 0;
                while from < data.len() {
                    let sector = (at + from) / SECTOR_BYTES;
                    let until = data.len().min((sector + 1) * SECTOR_BYTES - at);
                    if keeps(sector) {
                        old.resize(old.len().max(at + until), 0);
                        old[at + from..at + until].copy_from_slice(&data[from..until]);
                    }
                    from = until;
                }
            }
            Step::Resize(inode, size) => {
                if let Some(data) = self.data(*inode) {
                    data.resize(*size, 0);
                }
            }
            Step::Mode(inode, mode) => {
                if let Some(found) = self.inodes.get_mut(inode) {
                    found.mode = *mode;
                }
            }
            Step::Name((folder, name), inode) => {
                if let Some(names) = self.names(*folder) {
                    names.insert(name.clone(), *inode);
                }
            }
            Step::Unname((folder, name)) => {
                if let Some(names) = self.names(*folder) {
                    names.remove(name);
                }
            }
            Step::Rename { from, to, inode } => {
                self.take(&Step::Unname(from.clone()));
                self.take(&Step::Name(to.clone(), *inode));
            }
            Step::Sync(_) => {}
        }
    }

    /// The disk after these steps and a loss of power. `lost` says which steps are on the disk that loses power, by the
    /// inode that would have to be synced; the others are all kept.
    pub fn after(&self, steps: &[Step], loss: Loss, lost: impl Fn(u64) -> bool) -> Self {
        let mut last_sync = HashMap::new();
        for (n, step) in steps.iter().enumerate() {
            if let Step::Sync(inode) = step {
                last_sync.insert(*inode, n);
            }
        }
        let mut coin = Coin(match loss {
            Loss::Some(seed) | Loss::Sectors(seed) => seed,
            _ => 0,
        });
        let mut disk = self.clone();
        for (n, step) in steps.iter().enumerate() {
            let by = step.lasts_by();
            let lasts = by.is_none_or(|inode| !lost(inode) || last_sync.get(&inode).is_some_and(|sync| *sync > n));
            match loss {
                _ if lasts => disk.take(step),
                Loss::Nothing => disk.take(step),
                Loss::Contents | Loss::Sectors(_) if step.is_name() => disk.take(step),
                Loss::Names if !step.is_name() => disk.take(step),
                Loss::Some(_) | Loss::Sectors(_) if matches!(step, Step::Write { .. }) => {
                    disk.take_sectors(step, |_| coin.toss());
                }
                Loss::Some(_) | Loss::Sectors(_) if coin.toss() => disk.take(step),
                _ => {}
            }
        }
        disk
    }

    /// The inodes that had a name below this one of the root, at any time.
    pub fn below(&self, steps: &[Step], name: &str) -> std::collections::HashSet<u64> {
        let mut found = std::collections::HashSet::new();
        let mut disk = self.clone();
        let mut look = |disk: &Disk| {
            let Content::Folder(names) = &disk.inodes[&ROOT].content else { unreachable!() };
            let mut open: Vec<u64> = names.iter().filter(|(of, _)| *of == name).map(|(_, inode)| *inode).collect();
            while let Some(inode) = open.pop() {
                found.insert(inode);
                if let Some(Content::Folder(names)) = disk.inode(inode).map(|found| &found.content) {
                    open.extend(names.values());
                }
            }
        };
        look(&disk);
        for step in steps {
            disk.take(step);
            if step.is_name() {
                look(&disk);
            }
        }
        found
    }
}

/// Coin tosses that a seed determines (splitmix64).
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) & 1 == 1
    }
}

#[test]
fn only_what_was_synced_lasts() {
    let mut disk = Disk::default();
    let file = disk.new_inode();
    let empty = Inode { content: Content::File(Vec::new()), mode: 0o600 };
    let (old, new) = ((ROOT, "new.part".to_owned()), (ROOT, "new".to_owned()));
    let steps = [
        Step::Make(file, empty),
        Step::Name(old.clone(), file),
        Step::Write { inode: file, at: 0, data: vec![7; 1_000] },
        Step::Sync(file),
        Step::Rename { from: old, to: new, inode: file },
        Step::Sync(ROOT),
        Step::Write { inode: file, at: 1_000, data: vec![8; 600] },
    ];
    let seen = |count: usize, loss: Loss| {
        let mut after = disk.after(&steps[..count], loss, |_| true);
        let names: Vec<String> = after.names(ROOT).unwrap().keys().cloned().collect();
        (names, after.data(file).map_or(0, |data| data.len()))
    };
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(seen(3, Loss::All), (names(&[]), 0));
    assert_eq!(seen(3, Loss::Contents), (names(&["new.part"]), 0));
    assert_eq!(seen(3, Loss::Names), (names(&[]), 1_000));
    assert_eq!(seen(5, Loss::All), (names(&[]), 1_000), "the file is synced, its name is not");
    assert_eq!(seen(6, Loss::All), (names(&["new"]), 1_000));
    assert_eq!(seen(7, Loss::All), (names(&["new"]), 1_000));
    assert_eq!(seen(7, Loss::Nothing), (names(&["new"]), 1_600));
    let sizes: Vec<usize> = (0..64).map(|seed| seen(7, Loss::Some(seed)).1).collect();
    assert!([1_000, 1_024, 1_536, 1_600].iter().all(|size| sizes.contains(size)), "{sizes:?}");
}

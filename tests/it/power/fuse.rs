//! The disk as a mounted file system that records each step (FUSE).

use super::disk::{Content, Disk, Inode, ROOT, Step};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nothing is cached.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4_096;
/// Free blocks, as shown: 64 GiB.
const FREE_BLOCKS: u64 = 1 << 24;

/// The disk and the steps so far.
#[derive(Default)]
struct State {
    disk: Disk,
    steps: Vec<Step>,
}

impl State {
    fn take(&mut self, step: Step) {
        self.disk.take(&step);
        self.steps.push(step);
    }

    fn named(&self, folder: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        match self.disk.inode(folder.0).map(|found| &found.content) {
            Some(Content::Folder(names)) => names.get(name.to_str().unwrap()).copied().ok_or(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        let found = self.disk.inode(inode).ok_or(Errno::ENOENT)?;
        let (kind, size) = match &found.content {
            Content::File(data) => (FileType::RegularFile, data.len() as u64),
            Content::Folder(_) => (FileType::Directory, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: found.mode as u16,
            nlink: self.disk.links(inode).max(1),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    /// Makes an inode with a name.
    fn make(&mut self, folder: INodeNo, name: &OsStr, mode: u32, content: Content) -> Result<FileAttr, Errno> {
        if self.named(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let inode = self.disk.new_inode();
        self.take(Step::Make(inode, Inode { content, mode: mode & 0o777 }));
        self.take(Step::Name((folder.0, name.to_str().unwrap().to_owned()), inode));
        self.attributes(inode)
    }

    fn unname(&mut self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let inode = self.named(folder, name)?;
        if let Some(Content::Folder(names)) = self.disk.inode(inode).map(|found| &found.content)
            && !names.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.take(Step::Unname((folder.0, name.to_str().unwrap().to_owned())));
        Ok(())
    }
}

struct Forgetful(Arc<Mutex<State>>);

impl Forgetful {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// Answers with an entry or an error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:ident => $good:expr) => {
        match $result {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Forgetful {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state();
        let found = state.named(parent, name).and_then(|inode| state.attributes(inode));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.state().attributes(inode.0), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let Some(mode) = mode {
            state.take(Step::Mode(inode.0, mode & 0o777));
        }
        if let Some(size) = size {
            state.take(Step::Resize(inode.0, size as usize));
        }
        answer!(reply, state.attributes(inode.0), attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let made = self.state().make(parent, name, mode, Content::Folder(BTreeMap::new()));
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let made = self.state().make(parent, name, mode, Content::File(Vec::new()));
        answer!(reply, made, attr => {
            reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
        });
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        if state.named(parent, name).is_ok() {
            return reply.error(Errno::EEXIST);
        }
        state.take(Step::Name((parent.0, name.to_str().unwrap().to_owned()), inode.0));
        answer!(reply, state.attributes(inode.0), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.state().unname(parent, name), _done => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.state().unname(parent, name), _done => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        if flags.contains(RenameFlags::RENAME_NOREPLACE) && state.named(to, new).is_ok() {
            return reply.error(Errno::EEXIST);
        }
        let place = |folder: INodeNo, name: &OsStr| (folder.0, name.to_str().unwrap().to_owned());
        answer!(reply, state.named(parent, name), inode => {
            state.take(Step::Rename { from: place(parent, name), to: place(to, new), inode });
            reply.ok();
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().disk.inode(inode.0).map(|found| &found.content) {
            Some(Content::File(data)) => {
                let from = data.len().min(offset as usize);
                reply.data(&data[from..data.len().min(from + size as usize)]);
            }
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.state().take(Step::Write { inode: inode.0, at: offset as usize, data: data.to_vec() });
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().take(Step::Sync(inode.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().take(Step::Sync(inode.0));
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let size = state.attributes(inode.0).map_or(0, |attr| attr.size);
        state.take(Step::Resize(inode.0, size.max(offset + length) as usize));
        reply.ok();
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.state();
        let Some(Content::Folder(names)) = state.disk.inode(inode.0).map(|found| &found.content) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (n, (name, inode)) in names.iter().enumerate().skip(offset as usize) {
            let kind = state.attributes(*inode).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(*inode), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (FREE_BLOCKS * 2, 1 << 20);
        reply.statfs(blocks, FREE_BLOCKS, FREE_BLOCKS, files, files, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}

/// A folder whose changes are recorded.
pub struct Recording {
    before: Disk,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

/// What a recording found.
pub struct Recorded {
    /// The disk at the start.
    pub before: Disk,
    pub steps: Vec<Step>,
}

impl Recording {
    /// Mounts the recorder over a folder; none if this machine cannot.
    pub fn of(folder: &Path) -> Option<Self> {
        let before = Disk::read(folder);
        let state = Arc::new(Mutex::new(State { disk: before.clone(), steps: Vec::new() }));
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName("forgetful".into()));
        match fuser::spawn_mount(Forgetful(state.clone()), folder, &config) {
            Ok(session) => Some(Self { before, state, session: Some(session) }),
            Err(error) => {
                eprintln!("skipped: no FUSE file system can be mounted here: {error}");
                None
            }
        }
    }

    /// Steps so far. What a caller knows to be done was done in one of them.
    pub fn steps(&self) -> usize {
        self.state.lock().unwrap().steps.len()
    }

    /// Unmounts the recorder; the folder is as it was before.
    pub fn end(mut self) -> Recorded {
        self.session.take().unwrap().umount_and_join().unwrap();
        let mut state = self.state.lock().unwrap();
        Recorded { before: self.before.clone(), steps: std::mem::take(&mut state.steps) }
    }
}

const _: () = assert!(ROOT == INodeNo::ROOT.0);

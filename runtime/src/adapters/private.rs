//! Files and folders that are this runtime's own: nobody else of the machine can look into them, and a file is replaced whole or
//! not at all.
//!
//! The one place that decides modes and owners. Folders are 0700 and files 0600, whatever the umask is; the umask covers what
//! libraries make. Nothing here knows what is in a file.
#![expect(clippy::disallowed_methods, reason = "every file of ours is made here")]

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::fs::Mode;
use thiserror::Error;

/// The mode of a folder of ours.
const FOLDER_MODE: u32 = 0o700;
/// The mode of a file of ours.
const FILE_MODE: u32 = 0o600;
/// What lets others in.
const OTHERS: u32 = 0o077;
/// What lets others write.
const OTHERS_WRITE: u32 = 0o022;
const WORLD_WRITES: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
const SET_GROUP: u32 = 0o2000;
/// The folders of a data folder.
const WITHIN: [&str; 8] = ["loom", "artefacts", "guests", "copies", "origins", "familiars", "uploads", "run"];
/// 1 MiB. Bounds what is read of the list of users, for an owner's name in a message.
const USERS_BYTES: u64 = 1024 * 1024;

/// A folder that cannot be ours.
#[derive(Debug, Error)]
pub enum PrivateError {
    /// Another user has it.
    #[error("{} belongs to {owner}, and this is {user}: permission denied", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who runs this.
        user: String,
    },
    /// A link of another user leads there.
    #[error("{} is a link that {owner} has made, and this is {user}: permission denied", folder.display())]
    ForeignLink {
        /// The link.
        folder: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who runs this.
        user: String,
    },
    /// It cannot be looked at, made or closed.
    #[error("{}: {what}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl PrivateError {
    /// Says what a person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Foreign { .. } | Self::ForeignLink { .. } => {
                "run it as that user, or name a folder of your own: --data DIR or CANTRIP_DATA"
            }
            Self::Folder { .. } => "name a folder that you can read and write: --data DIR or CANTRIP_DATA",
        }
    }
}

/// The umask that the process was started with, where it was closed since.
static USERS_UMASK: OnceLock<u32> = OnceLock::new();

/// The user's own umask, for what is written as the user's and not as ours; nothing where it is still the process's.
pub fn users_umask() -> Option<u32> {
    USERS_UMASK.get().copied()
}

/// The umask that the process was started with.
#[derive(Debug, Clone, Copy)]
pub struct Umask(Mode);

impl Umask {
    /// Closes everything that is made from here on to others. Belongs before the first thread: the mask is the process's.
    pub fn close() -> Self {
        let before = rustix::process::umask(Mode::from_raw_mode(OTHERS));
        Self(Mode::from_raw_mode(*USERS_UMASK.get_or_init(|| before.as_raw_mode())))
    }

    /// Goes back to the user's mask, in a command that writes the user's own sources and none of our files.
    pub fn restore(self) {
        rustix::process::umask(self.0);
    }
}

/// The user that this process runs as.
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user's number, with the name where the machine's list has it.
fn named(id: u32) -> String {
    let mut text = String::new();
    let read = File::open("/etc/passwd").and_then(|file| file.take(USERS_BYTES).read_to_string(&mut text));
    let name = read.ok().and_then(|_| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        })
    });
    match name {
        Some(name) => format!("user {name} (uid {id})"),
        None => format!("uid {id}"),
    }
}

fn foreign(folder: &Path, owner: u32) -> PrivateError {
    PrivateError::Foreign { folder: folder.to_owned(), owner: named(owner), user: named(user()) }
}

fn failed(folder: &Path, what: &'static str) -> impl FnOnce(io::Error) -> PrivateError {
    let folder = folder.to_owned();
    move |source| PrivateError::Folder { folder, what, source }
}

const fn mode(metadata_mode: u32) -> u32 {
    metadata_mode & 0o7777
}

/// Whether a link stands there. What it leads to is not closed: whoever handed a data folder in could have it lead anywhere.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

fn closed(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    let now = mode(metadata.mode());
    if now & OTHERS == 0 {
        return Ok(false);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(now & 0o700))?;
    Ok(true)
}

/// Makes a folder that is ours alone, with its parents, or closes the one that is there to others.
///
/// # Errors
/// A folder of another user, and one that cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    make_missing(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != user() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, foreign(folder, metadata.uid())));
    }
    if is_link(folder) { Ok(()) } else { closed(folder, &metadata).map(drop) }
}

/// Makes what is missing of a folder, for nobody else to look into. What is there stays as it is.
///
/// # Errors
/// A folder that cannot be made.
pub fn make_missing(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Makes a folder of our own under a new name that cannot be guessed.
///
/// # Errors
/// A place where none can be made, or where others could put theirs in its place.
pub fn make_unpredictable(within: &Path, prefix: &str) -> io::Result<PathBuf> {
    let metadata = fs::metadata(within)?;
    let shared = mode(metadata.mode());
    if shared & WORLD_WRITES != 0 && shared & STICKY == 0 {
        let what = format!("{}: everybody may rename what is in it (mode {shared:04o})", within.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let path = within.join(format!("{prefix}{}", random_name()?));
    DirBuilder::new().mode(FOLDER_MODE).create(&path)?;
    Ok(path)
}

/// 128 random bits, in hexadecimal.
fn random_name() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// How a file of ours is opened for writing, and made where it is missing.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(FILE_MODE);
    options
}

/// Makes a file that was not there.
///
/// # Errors
/// A file that is there, and one that cannot be made.
pub fn create_new(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// A folder that cannot be synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // The parent of a bare file name is the empty path.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// A file that is written beside another, and is gone unless it took that one's place.
struct Beside {
    path: PathBuf,
    is_placed: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed is a name that nobody reads.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn place(path: &Path, is_durable: bool, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    // Another process, and another thread of this one, may replace the same file now: each has a name of its own.
    let mut beside = Beside { path: folder.join(format!(".cantrip-{}.new", random_name()?)), is_placed: false };
    let mut file = options().read(true).create_new(true).open(&beside.path)?;
    write(&mut file)?;
    if is_durable {
        file.sync_all()?;
    }
    fs::rename(&beside.path, path)?;
    beside.is_placed = true;
    if is_durable {
        sync_folder(folder)?;
    }
    Ok(file)
}

/// Replaces a file, whole or not at all; it is on disk when this returns.
///
/// # Errors
/// A folder that is missing or cannot be written to; the file is as it was.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, true, |file| file.write_all(content)).map(drop)
}

/// The same, and keeps the new file open for reading and writing, behind what was written.
///
/// # Errors
/// As [`replace`].
pub fn replace_open(path: &Path, content: &[u8]) -> io::Result<File> {
    place(path, true, |file| file.write_all(content))
}

/// The same for a file that may be lost with the machine's power: it is not synced.
///
/// # Errors
/// As [`replace`].
pub fn note(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, false, |file| file.write_all(content)).map(drop)
}

/// Closes a file of this user's to others. Returns the mode that it had, where others could read or write it.
///
/// # Errors
/// A file that cannot be looked at or changed.
pub fn close_file(path: &Path) -> io::Result<Option<u32>> {
    let open = open_to_others(path)?;
    match open {
        Some(_) if fs::metadata(path)?.uid() == user() => {
            fs::set_permissions(path, fs::Permissions::from_mode(FILE_MODE))?;
            Ok(open)
        }
        _ => Ok(None),
    }
}

/// The mode of a file that others than its owner can read or write.
///
/// # Errors
/// A file that cannot be looked at.
pub fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    let now = mode(fs::metadata(path)?.mode());
    Ok((now & OTHERS != 0).then_some(now))
}

/// What changes when a file is written or replaced; nothing where it cannot be looked at.
pub fn changed(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

/// A data folder that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder {
    /// The one that was asked for, or the private one within it where it is shared.
    pub folder: PathBuf,
    /// What a person should hear: that it was open to others, or is in a shared place.
    pub notice: Option<String>,
}

/// Looks at the data folder before anything of it is read or written: closes it to others, uses a private folder within a shared
/// one, and refuses another user's. One that is not there yet is made when something is written.
///
/// # Errors
/// A folder of another user, and one that cannot be looked at.
pub fn data_folder(asked: &Path) -> Result<DataFolder, PrivateError> {
    let nothing = DataFolder { folder: asked.to_owned(), notice: None };
    let link = match fs::symlink_metadata(asked) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing),
        Err(error) => return Err(failed(asked, "the data folder cannot be looked at")(error)),
    };
    if link.is_symlink() && link.uid() != user() && link.uid() != 0 {
        let (owner, user) = (named(link.uid()), named(user()));
        return Err(PrivateError::ForeignLink { folder: asked.to_owned(), owner, user });
    }
    let metadata = fs::metadata(asked).map_err(failed(asked, "the data folder cannot be looked at"))?;
    if !metadata.is_dir() {
        return Err(failed(asked, "the data folder cannot be used")(io::ErrorKind::NotADirectory.into()));
    }
    if is_shared(asked, &metadata) && !has_own_record(asked) {
        return within_shared(asked, &metadata);
    }
    if metadata.uid() != user() && !is_shared(asked, &metadata) {
        return Err(foreign(asked, metadata.uid()));
    }
    let mut open = Vec::new();
    if !is_shared(asked, &metadata)
        && closed(asked, &metadata).map_err(failed(asked, "it cannot be closed to others"))?
    {
        open.push(format!("{} (mode {:04o})", asked.display(), mode(metadata.mode())));
    }
    open.extend(close_within(asked)?);
    let notice = (!open.is_empty()).then(|| {
        let more = open.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more in it") } else { String::new() };
        let first = open.first().map_or("", String::as_str);
        format!("others of this machine could open {first}{more}; that is closed to them now")
    });
    Ok(DataFolder { folder: asked.to_owned(), notice })
}

/// Closes what lies directly in a data folder: what lies deeper is behind that.
fn close_within(folder: &Path) -> Result<Vec<String>, PrivateError> {
    let mut open = Vec::new();
    for name in WITHIN {
        let path = folder.join(name);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.uid() != user() {
            return Err(foreign(&path, metadata.uid()));
        }
        if !is_link(&path) && closed(&path, &metadata).map_err(failed(&path, "it cannot be closed to others"))? {
            open.push(format!("{} (mode {:04o})", path.display(), mode(metadata.mode())));
        }
    }
    let key = folder.join("loom").join("node.key");
    if !is_link(&folder.join("loom"))
        && !is_link(&key)
        && let Ok(Some(mode)) = close_file(&key)
    {
        open.push(format!("{} (mode {mode:04o})", key.display()));
    }
    Ok(open)
}

/// Looks through a folder of ours: everything in it is a folder or a file of its own. A link would be followed out of it when it is
/// written to, and a pipe waited for.
///
/// # Errors
/// The first that is something else, by name, and a folder that cannot be read.
pub fn holds_own_files(folder: &Path) -> io::Result<()> {
    if is_link(folder) {
        return Err(io::Error::other(format!("{} is a link, and no folder of its own", folder.display())));
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It was removed meanwhile, by whoever has it open.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = match entry.file_type() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                kind => kind?,
            };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if !kind.is_file() {
                let what = if kind.is_symlink() { "a link" } else { "a pipe or a device" };
                return Err(io::Error::other(format!("{} is {what}, and no file of its own", entry.path().display())));
            }
        }
    }
    Ok(())
}

/// Whether a folder is a place for several users: one whose files are kept apart (sticky), one of a group, or the root of a mount
/// that others may write to.
fn is_shared(folder: &Path, metadata: &Metadata) -> bool {
    let mode = mode(metadata.mode());
    if mode & OTHERS_WRITE == 0 {
        return false;
    }
    let is_marked = mode & (STICKY | SET_GROUP) != 0 || is_mount(folder, metadata);
    if metadata.uid() == user() {
        return is_marked;
    }
    let is_writable = mode & WORLD_WRITES != 0 || mode & GROUP_WRITES != 0 && is_in_group(metadata.gid());
    is_writable && (is_marked || metadata.uid() == 0)
}

fn is_mount(folder: &Path, metadata: &Metadata) -> bool {
    let above = folder.canonicalize().ok().and_then(|whole| fs::metadata(whole.parent()?).ok());
    above.is_some_and(|above| above.dev() != metadata.dev())
}

fn is_in_group(group: u32) -> bool {
    let groups = rustix::process::getgroups().unwrap_or_default();
    rustix::process::getegid().as_raw() == group || groups.iter().any(|it| it.as_raw() == group)
}

/// Whether a record of this user lies directly in a shared folder, as an earlier version has made it: it is not left behind.
fn has_own_record(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join("loom")).is_ok_and(|it| it.is_dir() && it.uid() == user())
}

fn within_shared(shared: &Path, metadata: &Metadata) -> Result<DataFolder, PrivateError> {
    let folder = shared.join(format!("cantrip-{}", user()));
    match DirBuilder::new().mode(FOLDER_MODE).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(&folder, "a private folder cannot be made in this shared one")(error));
        }
        _ => {}
    }
    let own = fs::symlink_metadata(&folder).map_err(failed(&folder, "it cannot be looked at"))?;
    if own.uid() != user() {
        return Err(foreign(&folder, own.uid()));
    }
    if !own.is_dir() {
        return Err(failed(&folder, "the private folder cannot be used")(io::ErrorKind::NotADirectory.into()));
    }
    closed(&folder, &own).map_err(failed(&folder, "it cannot be closed to others"))?;
    close_within(&folder)?;
    let mode = mode(metadata.mode());
    let renamed = if mode & STICKY == 0 { "; without its sticky bit others can rename what is in it" } else { "" };
    let notice =
        format!("{} is shared (mode {mode:04o}): the data is in {}{renamed}", shared.display(), folder.display());
    Ok(DataFolder { folder, notice: Some(notice) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        mode(fs::metadata(path).unwrap().mode())
    }

    fn open_folder(within: &Path, name: &str, mode: u32) -> PathBuf {
        let folder = within.join(name);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn an_own_folder_that_is_open_is_closed_and_said_once() {
        let parent = tempfile::tempdir().unwrap();
        let data = open_folder(parent.path(), "data", 0o755);
        let loom = open_folder(&data, "loom", 0o777);
        fs::write(loom.join("node.key"), [1; 32]).unwrap();
        fs::set_permissions(loom.join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let first = data_folder(&data).unwrap();
        let said = first.notice.unwrap();
        assert!(said.contains("0755") && said.contains("2 more"), "{said}");
        assert_eq!((mode_of(&data), mode_of(&loom), mode_of(&loom.join("node.key"))), (0o700, 0o700, 0o600));
        assert_eq!(data_folder(&data).unwrap(), DataFolder { folder: data, notice: None });
    }

    #[test]
    fn a_link_in_a_data_folder_closes_nothing_elsewhere() {
        let parent = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (open_folder(parent.path(), "data", 0o700), open_folder(parent.path(), "web", 0o755));
        fs::write(elsewhere.join("node.key"), "a page").unwrap();
        fs::set_permissions(elsewhere.join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
        for name in WITHIN {
            std::os::unix::fs::symlink(&elsewhere, data.join(name)).unwrap();
        }
        assert_eq!(data_folder(&data).unwrap().notice, None);
        make_folder(&data.join("guests")).unwrap();
        assert_eq!((mode_of(&elsewhere), mode_of(&elsewhere.join("node.key"))), (0o755, 0o644));
    }

    #[test]
    fn a_shared_place_gets_a_private_folder_and_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        for mode in [0o1777, 0o2775, 0o3777] {
            let shared = open_folder(parent.path(), &format!("{mode:o}"), mode);
            let found = data_folder(&shared).unwrap();
            assert!(found.folder.starts_with(&shared) && found.folder != shared, "{found:?}");
            assert_eq!((mode_of(&found.folder) & 0o777, mode_of(&shared)), (0o700, mode));
            assert_eq!(data_folder(&shared).unwrap().folder, found.folder, "the next run finds it again");
        }
    }

    #[test]
    fn a_record_that_lies_in_a_shared_place_is_not_left_behind() {
        let parent = tempfile::tempdir().unwrap();
        let shared = open_folder(parent.path(), "shared", 0o1777);
        let loom = open_folder(&shared, "loom", 0o755);
        let found = data_folder(&shared).unwrap();
        assert_eq!((found.folder, mode_of(&shared), mode_of(&loom)), (shared, 0o1777, 0o700));
    }

    #[test]
    fn who_replaces_one_file_at_once_never_leaves_half_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace(path, &[writer; 4096]).unwrap();
                    }
                });
            }
        });
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 4096 && content.iter().all(|byte| Some(byte) == content.first()));
        assert_eq!(
            (fs::read_dir(folder.path()).unwrap().count(), mode_of(&path)),
            (1, 0o600),
            "nothing is left beside"
        );
    }
}

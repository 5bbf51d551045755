//! What the tests with real nodes share: processes, ports, and a network that can be cut.

#![expect(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A port for a node that is started later, or started again. It lies below those that the system gives to outgoing connections
/// (from 32 768 on Linux, from 49 152 elsewhere), so that no connection of another test sits on it when the node wants it.
pub(crate) fn port() -> u16 {
    const PORTS: std::ops::Range<u32> = 20_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test files that run at once begin at different places.
    let first = std::process::id().wrapping_mul(97);
    let mut ports = PORTS.map(|_| {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        u16::try_from(PORTS.start + number).unwrap()
    });
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The binary in a folder that has its nodes' sockets and its record. The home is elsewhere, and is not there: in a home folder a
/// file has no project, and each of its roots would have to be trusted.
pub(crate) fn binary(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cantrip-runtime"));
    command.current_dir(folder).env("HOME", "/nonexistent").env("XDG_DATA_HOME", folder.join("share"));
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "CANTRIP_CONFIG", "CANTRIP_DATA", "CANTRIP_LOG", "CANTRIP_LLM"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn compiled() -> &'static Path {
    static ONCE: OnceLock<PathBuf> = OnceLock::new();
    ONCE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-artefacts");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// Has a data folder use what was compiled for the others.
pub(crate) fn lend(data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    std::os::unix::fs::symlink(compiled(), data.join("artefacts")).unwrap();
}

/// What a scripted model proposes, one code a line.
pub(crate) fn script(codes: &[&str]) -> String {
    let lines: Vec<String> = codes.iter().map(|code| serde_json::json!({ "code": code }).to_string()).collect();
    lines.join("\n")
}

/// A thread that counts, with a number that only its record has, and ends with a note of the workspace.
pub(crate) const COUNTING: [&str; 4] = [
    "var n = 1; var note = read_file('note.txt'); n",
    "n += Math.floor(Math.random() * 1000); n",
    "echo('n is ' + n); n * 2",
    "done({ n, note })",
];

pub(crate) struct Served(pub(crate) Child);

impl Served {
    /// Starts a node and waits until it serves.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("serves on") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        // What it says later is read, so that it never waits for a reader.
        std::thread::spawn(move || drop(stderr.read_to_end(&mut Vec::new())));
        Self(process)
    }
}

impl Served {
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !met() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every file of a folder with what is in it.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Writes the former contents into the same files.
pub(crate) fn put_back(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in files(folder).into_keys().filter(|path| !before.contains_key(path)) {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in before {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Passes connections on to b, and cuts them when told.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) cut: Arc<AtomicBool>,
    pub(crate) to: Arc<AtomicU16>,
}

impl Proxy {
    pub(crate) fn new(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::new(AtomicBool::new(false)),
            to: Arc::new(AtomicU16::new(to)),
        };
        let (cut, to) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.to));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst))) else { continue };
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    let cut = Arc::clone(&cut);
                    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while !cut.load(Ordering::SeqCst) {
                            match from.read(&mut bytes) {
                                Ok(0) => break,
                                Ok(n) => {
                                    let Some(read) = bytes.get(..n) else { break };
                                    if to.write_all(read).is_err() {
                                        break;
                                    }
                                }
                                Err(error)
                                    if matches!(
                                        error.kind(),
                                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                                    ) => {}
                                Err(_) => break,
                            }
                        }
                        drop(to.shutdown(std::net::Shutdown::Both));
                    });
                }
            }
        });
        proxy
    }
}

/// Numbers by seed, so that the faults of a run can be had again.
pub(crate) struct Faults(pub(crate) u64);

impl Faults {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

//! File gates: what they return, their bounds, and every trick a path can play.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a test lays out the files that a gate then meets")]
#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cantrip_gates::{CallContext, Gate, Root, RootError, builtin};
use serde_json::{Value, json};
use support::{call, call_within, check_error};
use tempfile::TempDir;

/// A directory with a root in it and a secret beside the root.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir_all(dir.path().join("root/sub/deep")).expect("directories");
        fs::write(dir.path().join("secret.txt"), "SECRET").expect("a secret");
        fs::create_dir(dir.path().join("outside")).expect("a directory");
        fs::write(dir.path().join("outside/secret.txt"), "SECRET").expect("a secret");
        let place = Self { dir };
        place.put("README.md", "first\n\nsecond\n");
        place.put("sub/a.txt", "alpha");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file");
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.path(name)).expect("a link");
    }

    fn fifo(&self, name: &str) {
        let made = Command::new("mkfifo").arg(self.path(name)).status().expect("mkfifo");
        assert!(made.success());
    }

    fn root(&self) -> Root {
        Root::open(&self.dir.path().join("root")).expect("a root")
    }

    fn read(&self, path: &str) -> Result<Value, cantrip_gates::GateError> {
        call(&builtin::read_file(self.root()), json!({"path": path}))
    }

    fn write(&self, path: &str, content: &str) -> Result<Value, cantrip_gates::GateError> {
        call(&builtin::write_file(self.root()), json!({"path": path, "content": content}))
    }

    fn gates(&self) -> Vec<Arc<dyn Gate>> {
        let root = self.root();
        vec![
            builtin::read_file(root.clone()),
            builtin::list_dir(root.clone()),
            builtin::search(root.clone()),
            builtin::write_file(root),
        ]
    }
}

fn arguments(gate: &Arc<dyn Gate>, path: &str) -> Value {
    match gate.spec().name.as_str() {
        "search" => json!({"pattern": "x", "path": path}),
        "write_file" => json!({"path": path, "content": "x"}),
        _ => json!({"path": path}),
    }
}

#[test]
fn a_root_is_a_directory_that_is_there() {
    let place = Place::new();
    let error = Root::open(&place.path("missing")).expect_err("missing");
    assert!(matches!(error, RootError::Missing(_)) && error.to_string().contains("missing` does not exist"));
    let error = Root::open(&place.path("README.md")).expect_err("a file");
    assert!(matches!(error, RootError::NotADirectory(_)) && error.to_string().contains("is not a directory"));
}

#[test]
fn circle_10_a_root_stays_what_it_was_when_its_path_moves() {
    let place = Place::new();
    let gate = builtin::read_file(place.root());
    fs::rename(place.dir.path().join("root"), place.dir.path().join("moved")).expect("renamed");
    fs::rename(place.dir.path().join("outside"), place.dir.path().join("root")).expect("renamed");
    assert_eq!(call(&gate, json!({"path": "sub/a.txt"})), Ok(json!("alpha")));
    check_error(call(&gate, json!({"path": "secret.txt"})), "not_found", "does not exist");
}

#[test]
fn a_file_is_returned_as_text() {
    let place = Place::new();
    place.put("empty", "");
    assert_eq!(place.read("README.md"), Ok(json!("first\n\nsecond\n")));
    assert_eq!(place.read("./sub//a.txt"), Ok(json!("alpha")));
    assert_eq!(place.read("sub/../README.md"), Ok(json!("first\n\nsecond\n")));
    assert_eq!(place.read("empty"), Ok(json!("")));
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let place = Place::new();
    place.link("sub/a.txt", "inner");
    place.link("../README.md", "sub/up");
    assert_eq!(place.read("inner"), Ok(json!("alpha")));
    assert_eq!(place.read("sub/up"), Ok(json!("first\n\nsecond\n")));
}

#[test]
fn every_way_out_of_the_root_is_denied_to_every_gate() {
    let place = Place::new();
    place.link("..", "up");
    place.link("/etc", "etc");
    place.link("sub/../../outside", "winding");
    place.link(place.dir.path().join("outside"), "absolute");
    place.link("up", "twice");
    let paths = [
        "..",
        "../secret.txt",
        "../outside/secret.txt",
        "sub/../../secret.txt",
        "sub/deep/../../../secret.txt",
        "/etc/passwd",
        "/",
        "//etc/passwd",
        "up/secret.txt",
        "etc/passwd",
        "winding/secret.txt",
        "absolute/secret.txt",
        "twice/secret.txt",
        "sub/../up/secret.txt",
        "..\\secret.txt",
        "C:\\secret.txt",
        "C:/secret.txt",
        "~/x",
        "~",
    ];
    for gate in place.gates() {
        for path in paths {
            // A file cannot be written to what is no file name, whatever it leads to.
            let kind =
                if gate.spec().name.as_str() == "write_file" && matches!(path, "/" | "..") { "" } else { "denied" };
            let error = call(&gate, arguments(&gate, path)).expect_err(path);
            let named = format!("{}: path `{path}`", gate.spec().name);
            assert!(error.kind() == kind || kind.is_empty(), "{named} gave {}: {error}", error.kind());
            assert!(error.message().contains(&named), "{named} gave {error}");
            let host_path = place.dir.path().to_string_lossy().into_owned();
            assert!(!error.message().contains(&host_path), "{error} tells the place of the root");
        }
    }
    assert_eq!(fs::read_to_string(place.dir.path().join("secret.txt")).expect("there"), "SECRET");
}

#[test]
fn a_link_out_of_the_root_is_neither_read_nor_replaced() {
    let place = Place::new();
    place.link("../secret.txt", "leak");
    place.link(place.dir.path().join("secret.txt"), "leak2");
    place.link("missing", "dangling");
    check_error(place.read("leak"), "denied", "read_file: path `leak`: leads out of the root");
    check_error(place.read("leak2"), "denied", "leads out of the root");
    check_error(place.read("dangling"), "not_found", "does not exist");
    check_error(place.write("leak", "x"), "denied", "write_file: path `leak`: is a symbolic link");
    check_error(place.write("dangling", "x"), "denied", "is a symbolic link");
    assert_eq!(fs::read_to_string(place.dir.path().join("secret.txt")).expect("there"), "SECRET");
}

#[test]
fn what_cannot_be_a_path_is_refused_by_every_gate() {
    let place = Place::new();
    let long = "x".repeat(256);
    let deep = "x/".repeat(3_000);
    let cases = [
        ("", "is empty"),
        ("a\0b", "NUL (U+0000)"),
        ("README.md\0.txt", "NUL"),
        ("a\nb", "U+000A"),
        ("a\u{1b}[2J", "U+001B"),
        (long.as_str(), "256 bytes, at most 255"),
        (deep.as_str(), "at most 4096"),
        ("\u{ff0e}\u{ff0e}/secret.txt", "U+FF0E"),
        ("..\u{2215}secret.txt", "U+2215"),
        ("..\u{ff0f}secret.txt", "U+FF0F"),
        ("\u{2025}/secret.txt", "U+2025"),
        ("\u{2024}\u{2024}/x", "U+2024"),
        ("txt.\u{202e}dm", "U+202E"),
        ("a\u{2066}b", "U+2066"),
        ("a\u{200b}b", "U+200B"),
    ];
    for gate in place.gates() {
        for (path, part) in cases {
            check_error(call(&gate, arguments(&gate, path)), "invalid", part);
        }
    }
}

#[test]
fn letters_that_look_alike_are_other_names() {
    let place = Place::new();
    check_error(place.read("sub/\u{430}.txt"), "not_found", "does not exist");
    place.put("e\u{301}.txt", "combining");
    place.put("\u{e9}.txt", "composed");
    assert_eq!(place.read("e\u{301}.txt"), Ok(json!("combining")));
    assert_eq!(place.read("\u{e9}.txt"), Ok(json!("composed")));
}

#[test]
fn case_is_the_file_systems_to_decide() {
    let place = Place::new();
    let ignores_case = place.path("readme.MD").exists();
    let read = place.read("readme.MD");
    if ignores_case {
        assert_eq!(read, Ok(json!("first\n\nsecond\n")));
    } else {
        check_error(read, "not_found", "did you mean `README.md`?");
    }
}

#[test]
fn a_missing_file_comes_with_the_nearest_name() {
    let place = Place::new();
    check_error(
        place.read("REDME.md"),
        "not_found",
        "read_file: path `REDME.md`: does not exist; did you mean `README.md`?",
    );
    check_error(place.read("sbu/a.txt"), "not_found", "did you mean `sub`?");
    check_error(place.read("sub/b.txt"), "not_found", "did you mean `sub/a.txt`?");
    check_error(place.read("sub/a.txt/x"), "invalid", "should be a directory");
    place.link("../outside", "out");
    check_error(place.read("out/secrets.txt"), "denied", "leads out");
}

#[test]
fn directories_and_special_files_are_not_read_and_do_not_block() {
    let place = Place::new();
    place.fifo("pipe");
    let socket = std::os::unix::net::UnixListener::bind(place.path("socket")).expect("a socket");
    let started = Instant::now();
    check_error(place.read("pipe"), "denied", "read_file: path `pipe`: is not a regular file");
    check_error(place.read("socket"), "denied", "is not a regular file");
    check_error(place.read("sub"), "invalid", "read_file: path `sub`: is a directory; `list_dir`");
    check_error(place.read("."), "invalid", "is a directory");
    let search = builtin::search(place.root());
    check_error(call(&search, json!({"pattern": "x", "path": "pipe"})), "denied", "is not a regular file");
    assert_eq!(call(&search, json!({"pattern": "nowhere"})), Ok(json!([])));
    check_error(place.write("pipe", "x"), "denied", "is not a regular file");
    check_error(place.write("socket", "x"), "denied", "is not a regular file");
    check_error(place.write("sub", "x"), "denied", "is a directory");
    assert!(started.elapsed() < Duration::from_secs(5), "something blocked");
    drop(socket);
}

#[test]
fn devices_are_not_read() {
    let gate = builtin::read_file(Root::open(Path::new("/dev")).expect("/dev"));
    for device in ["null", "zero", "tty"] {
        let error = call(&gate, json!({"path": device})).expect_err(device);
        assert!(error.message().contains(device), "{error}");
        assert!(matches!(error.kind(), "denied" | "not_found" | "failed"), "{error}");
    }
    check_error(call(&gate, json!({"path": "null"})), "denied", "is not a regular file");
}

#[test]
fn a_part_of_a_file_is_read_by_bytes() {
    let place = Place::new();
    place.put("text", "aé日z");
    let gate = builtin::read_file(place.root());
    let part = |offset: u64, limit: u64| call(&gate, json!({"path": "text", "offset": offset, "limit": limit}));
    assert_eq!(part(0, 1), Ok(json!("a")));
    assert_eq!(part(0, 2), Ok(json!("a")));
    assert_eq!(part(1, 2), Ok(json!("é")));
    assert_eq!(part(3, 100), Ok(json!("日z")));
    assert_eq!(part(7, 5), Ok(json!("")));
    assert_eq!(part(100, 5), Ok(json!("")));
    assert_eq!(call(&gate, json!({"path": "text", "offset": 6})), Ok(json!("z")));
    check_error(part(2, 5), "invalid", "byte 2 is inside a character; the next one starts at byte 3");
    check_error(part(4, 5), "invalid", "byte 4 is inside a character; the next one starts at byte 6");
    check_error(part(3, 2), "invalid", "`limit` is smaller than the one character at byte 3");
    check_error(part(0, 0), "invalid", "limit");
    check_error(part(0, 2_000_000), "invalid", "limit");
}

#[test]
fn what_is_not_text_is_said_so() {
    let place = Place::new();
    place.put("binary", b"ab\xff\xfe");
    place.put("cut", b"ab\xc3");
    check_error(place.read("binary"), "invalid", "read_file: path `binary`: is not UTF-8 text (byte 2)");
    check_error(place.read("cut"), "invalid", "is not UTF-8 text (byte 2)");
}

#[test]
fn a_large_file_is_refused_whole_and_read_in_parts() {
    let place = Place::new();
    let bytes = usize::try_from(builtin::READ_BYTES_MAX).expect("fits");
    place.put("exact", "x".repeat(bytes));
    place.put("large", "x".repeat(bytes + 1));
    assert_eq!(place.read("exact").expect("it fits").as_str().map(str::len), Some(bytes));
    check_error(
        place.read("large"),
        "exhausted",
        "has 1048577 bytes, and one call returns at most 1048576; read it in parts",
    );
    let gate = builtin::read_file(place.root());
    let rest = call(&gate, json!({"path": "large", "offset": bytes, "limit": 10})).expect("a part");
    assert_eq!(rest, json!("x"));
    let narrow = CallContext { output_bytes_max: 10, ..CallContext::default() };
    check_error(call_within(&gate, json!({"path": "exact"}), &narrow), "exhausted", "at most 10");
    assert_eq!(call_within(&gate, json!({"path": "sub/a.txt"}), &narrow), Ok(json!("alpha")));
}

#[test]
fn a_directory_is_listed_in_order() {
    let place = Place::new();
    place.link("missing", "link");
    place.fifo("pipe");
    let gate = builtin::list_dir(place.root());
    let expected = json!([
        {"name": "README.md", "kind": "file", "bytes": 14},
        {"name": "link", "kind": "symlink", "bytes": null},
        {"name": "pipe", "kind": "other", "bytes": null},
        {"name": "sub", "kind": "directory", "bytes": null},
    ]);
    assert_eq!(call(&gate, json!({})), Ok(expected.clone()));
    assert_eq!(call(&gate, json!({"path": "sub/.."})), Ok(expected));
    check_error(call(&gate, json!({"path": "README.md"})), "invalid", "directory");
    check_error(call(&gate, json!({"path": "sbu"})), "not_found", "did you mean `sub`?");
}

#[test]
fn a_huge_directory_is_refused() {
    let place = Place::new();
    for at in 0..=builtin::LIST_ENTRIES_MAX {
        fs::File::create(place.path(&format!("sub/deep/{at}"))).expect("a file");
    }
    let gate = builtin::list_dir(place.root());
    check_error(call(&gate, json!({"path": "sub/deep"})), "exhausted", "has more than 10000 entries");
    let narrow = CallContext { output_bytes_max: 10, ..CallContext::default() };
    check_error(call_within(&gate, json!({}), &narrow), "exhausted", "more than the 10 bytes");
}

#[test]
fn a_search_finds_lines() {
    let place = Place::new();
    place.put("sub/deep/b.rs", "fn main() {}\n// Second\n");
    place.put("sub/binary", b"second\0\xff");
    fs::create_dir(place.path(".git")).expect("a directory");
    place.put(".git/config", "second");
    place.link("../outside", "out");
    place.link("README.md", "alias");
    let gate = builtin::search(place.root());
    let found = |arguments: Value| call(&gate, arguments).expect("a search");
    let expected = json!([
        {"path": "README.md", "line": 3, "text": "second"},
        {"path": "sub/deep/b.rs", "line": 2, "text": "// Second"},
    ]);
    assert_eq!(found(json!({"pattern": "(?i)second"})), expected);
    assert_eq!(found(json!({"pattern": "(?i)second", "glob": "*.rs"})), json!([expected[1]]));
    assert_eq!(found(json!({"pattern": "(?i)second", "glob": "sub/**/*.rs"})), json!([expected[1]]));
    assert_eq!(found(json!({"pattern": "(?i)second", "path": "sub"})), json!([expected[1]]));
    assert_eq!(found(json!({"pattern": "second", "path": "README.md"})), json!([expected[0]]));
    assert_eq!(found(json!({"pattern": "(?i)second", "max_results": 1})), json!([expected[0]]));
    assert_eq!(found(json!({"pattern": "SECRET"})), json!([]));
}

#[test]
fn a_search_keeps_its_bounds() {
    let place = Place::new();
    let gate = builtin::search(place.root());
    check_error(
        call(&gate, json!({"pattern": "("})),
        "invalid",
        "search: argument `pattern`: not a regular expression",
    );
    check_error(call(&gate, json!({"pattern": "(a{1000}){1000}"})), "invalid", "argument `pattern`");
    check_error(call(&gate, json!({"pattern": "x", "glob": "["})), "invalid", "argument `glob`");
    check_error(call(&gate, json!({"pattern": "x", "max_results": 1_001})), "invalid", "max_results");
    check_error(call(&gate, json!({"pattern": ""})), "invalid", "pattern");
    let past = CallContext { deadline: Some(Instant::now()), ..CallContext::default() };
    check_error(call_within(&gate, json!({"pattern": "x"}), &past), "timed_out", "the time for one search ran out");
    let narrow = CallContext { output_bytes_max: 10, ..CallContext::default() };
    check_error(
        call_within(&gate, json!({"pattern": "first"}), &narrow),
        "exhausted",
        "more text than one call may return",
    );
    let deep = "d/".repeat(builtin::SEARCH_DEPTH_MAX + 1);
    fs::create_dir_all(place.path(&deep)).expect("directories");
    check_error(call(&gate, json!({"pattern": "x"})), "exhausted", "32 directories of depth");
}

#[test]
fn a_search_reads_so_many_bytes_and_no_more() {
    let place = Place::new();
    let file = "x".repeat(7 * 1024 * 1024);
    for at in 0..10 {
        place.put(&format!("sub/{at}"), &file);
    }
    let gate = builtin::search(place.root());
    check_error(call(&gate, json!({"pattern": "nowhere"})), "exhausted", "stopped after 64 MiB of files");
    place.put("sub/0", "x".repeat(9 * 1024 * 1024));
    assert_eq!(call(&gate, json!({"pattern": "x", "path": "sub", "glob": "0"})), Ok(json!([])));
    let long = call(&gate, json!({"pattern": "x", "path": "sub/1"})).expect("found");
    let text = long[0]["text"].as_str().expect("text");
    assert_eq!(text.chars().count(), builtin::SEARCH_LINE_CHARS_MAX + 1);
}

#[test]
fn a_file_is_written_whole() {
    let place = Place::new();
    assert_eq!(place.write("new.txt", "néw"), Ok(json!({"path": "new.txt", "bytes": 4})));
    assert_eq!(place.read("new.txt"), Ok(json!("néw")));
    assert_eq!(place.write("sub/a.txt", ""), Ok(json!({"path": "sub/a.txt", "bytes": 0})));
    assert_eq!(place.read("sub/a.txt"), Ok(json!("")));
    check_error(
        place.write("no/where.txt", "x"),
        "not_found",
        "its directory does not exist; `create_dirs: true` makes it",
    );
    check_error(place.write("README.md/x", "x"), "invalid", "should be a directory");
    for path in ["sub/", ".", "sub/.."] {
        check_error(place.write(path, "x"), "invalid", "does not end in the name of a file");
    }
    let gate = builtin::write_file(place.root());
    let made = call(&gate, json!({"path": "no/where/x.txt", "content": "x", "create_dirs": true}));
    assert_eq!(made, Ok(json!({"path": "no/where/x.txt", "bytes": 1})));
    let names: Vec<_> =
        fs::read_dir(place.path(".")).expect("listed").map(|entry| entry.expect("entry").file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("cantrip-write")), "{names:?}");
}

#[test]
fn directories_are_never_made_outside() {
    let place = Place::new();
    place.link("../outside", "out");
    let gate = builtin::write_file(place.root());
    for path in ["out/new/x.txt", "sub/../../outside/new/x.txt"] {
        check_error(
            call(&gate, json!({"path": path, "content": "x", "create_dirs": true})),
            "denied",
            "leads out of the root",
        );
    }
    assert!(!place.dir.path().join("outside/new").exists());
}

#[test]
fn a_replaced_file_keeps_its_mode_and_a_read_only_one_stays() {
    let place = Place::new();
    place.put("run.sh", "old");
    fs::set_permissions(place.path("run.sh"), fs::Permissions::from_mode(0o755)).expect("mode");
    place.write("run.sh", "new").expect("written");
    let mode = fs::metadata(place.path("run.sh")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    fs::set_permissions(place.path("run.sh"), fs::Permissions::from_mode(0o444)).expect("mode");
    check_error(place.write("run.sh", "newer"), "denied", "is read-only");
    assert_eq!(place.read("run.sh"), Ok(json!("new")));
}

#[test]
fn content_is_bounded() {
    let place = Place::new();
    let content = "x".repeat(builtin::WRITE_BYTES_MAX + 1);
    check_error(place.write("big", &content), "exhausted", "content has 10485761 bytes, at most 10485760 are written");
    assert!(!place.path("big").exists());
}

#[test]
fn gates_work_without_a_tokio_runtime() {
    let place = Place::new();
    let gate = builtin::search(place.root());
    let context = CallContext::default();
    let mut future = gate.call(json!({"pattern": "second"}), &context);
    let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(found) = future.as_mut().poll(&mut waker) else { unreachable!("the walk waited") };
    assert_eq!(found.expect("a search")[0]["line"], json!(3));
}

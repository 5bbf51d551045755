//! `new`: a project that builds as it is, with a test.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use include_dir::{Dir, File, include_dir};

use crate::cli::args::{Language, NewArgs};
use crate::cli::exit::{CliError, Exit};
use crate::cli::output::say_text;
use crate::cli::print;
use crate::cli::settings::{Settings, guest_name};
use crate::cli::trust::trust_written;

/// Everything that a project is made of, and nothing that has to be fetched: the SDK is the one of this version.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");

pub(crate) fn new(settings: &Settings, args: &NewArgs) -> Result<Exit, CliError> {
    // A folder such as `.` has its name from where it is.
    let name = guest_name(&std::path::absolute(&args.folder).unwrap_or_else(|_| args.folder.clone()));
    let failed = |error: std::io::Error| CliError::usage(error).hint("name another folder");
    if args.folder.exists() && fs::read_dir(&args.folder).map_err(failed)?.next().is_some() {
        return Err(CliError::usage(anyhow::anyhow!("{} is there already and not empty", args.folder.display()))
            .hint("name another folder"));
    }
    let project = Project { folder: &args.folder, name: &name };
    for common in ["cantrip.toml", "docs/welcome.md"] {
        project.template(common, common)?;
    }
    project.templates(args.lang)?;
    let (prepare, test) = match args.lang {
        Language::Rust => {
            project.sdk()?;
            (None, "cargo test")
        }
        Language::Javascript => (Some("npm install"), "npm test"),
        Language::Python => (Some("pip install -r requirements.txt"), "python3 -m unittest"),
    };
    if args.lang != Language::Rust {
        project.template("world.wit", "wit/world.wit")?;
        project.copied(&SDK, "wit/guest.wit", "wit/deps/cantrip-guest/guest.wit")?;
    }
    trust_written(settings, &args.folder.join("cantrip.toml"))?;
    print(&args.folder.display().to_string())?;
    let prepare = prepare.map(|command| format!("  {command}\n")).unwrap_or_default();
    say_text(&format!(
        "\nnext:\n  cd {}\n{prepare}  {test}\n  cantrip-runtime build .\n  cantrip-runtime cast cantrip.toml \"Summarise docs/\"",
        args.folder.display()
    ));
    Ok(Exit::Done)
}

struct Project<'a> {
    folder: &'a Path,
    name: &'a str,
}

impl Project<'_> {
    /// All files of a language, as they lie in its folder.
    fn templates(&self, language: Language) -> Result<(), CliError> {
        let folder = match language {
            Language::Rust => "rust",
            Language::Javascript => "javascript",
            Language::Python => "python",
        };
        let Some(templates) = TEMPLATES.get_dir(folder) else { return Err(missing(folder)) };
        for file in files_of(templates) {
            let path = file.path().strip_prefix(folder).unwrap_or(file.path());
            match path.to_string_lossy().as_ref() {
                // Under its own name it would be a rule of this repository.
                "gitignore" => self.write(Path::new(".gitignore"), file.contents())?,
                "cantrip-guest.toml" => self.write(Path::new("cantrip-guest/Cargo.toml"), file.contents())?,
                "cantrip-guest-macros.toml" => {
                    self.write(Path::new("cantrip-guest/macros/Cargo.toml"), file.contents())?;
                }
                _ => self.write(path, file.contents())?,
            }
        }
        Ok(())
    }

    /// The SDK, without the manifests that are part of this workspace.
    fn sdk(&self) -> Result<(), CliError> {
        let parts = ["src", "macros/src", "wit"].map(Path::new);
        for file in files_of(&SDK).into_iter().filter(|file| parts.iter().any(|part| file.path().starts_with(part))) {
            self.write(&Path::new("cantrip-guest").join(file.path()), file.contents())?;
        }
        Ok(())
    }

    fn template(&self, from: &str, to: &str) -> Result<(), CliError> {
        self.copied(&TEMPLATES, from, to)
    }

    fn copied(&self, source: &Dir<'_>, from: &str, to: &str) -> Result<(), CliError> {
        let file = source.get_file(from).ok_or_else(|| missing(from))?;
        self.write(Path::new(to), file.contents())
    }

    fn write(&self, path: &Path, contents: &[u8]) -> Result<(), CliError> {
        let path = self.folder.join(path);
        let text = String::from_utf8_lossy(contents)
            .replace("{{name}}", self.name)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"));
        let folder = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(folder)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| CliError::usage(anyhow::Error::new(error).context(path.display().to_string())))
    }
}

/// All files below a folder.
fn files_of<'a>(folder: &'a Dir<'a>) -> Vec<&'a File<'a>> {
    folder.files().chain(folder.dirs().flat_map(files_of)).collect()
}

fn missing(what: &str) -> CliError {
    CliError::fault(anyhow::anyhow!("this binary was built without the template {what}"))
}

//! A cantrip without a model: summarises the files of the folder that the intent names, as in `Summarise docs/`.

use cantrip_guest::list_dir::Kind;
use cantrip_guest::{Error, list_dir, log, read_file};

#[cantrip_guest::main]
pub fn run(intent: &str) -> Result<String, Error> {
    let folder = intent.split_whitespace().last().ok_or_else(|| Error::invalid("name a folder, as in `Summarise docs/`"))?;
    let folder = folder.trim_end_matches('/');
    let mut lines = Vec::new();
    for entry in list_dir::list(folder)? {
        if entry.kind == Kind::File && entry.name.ends_with(".md") {
            let text = read_file::read(&format!("{folder}/{}", entry.name))?;
            lines.push(format!("{}: {}", entry.name, first_sentence(&text)));
        }
    }
    log::info(format_args!("{} files read", lines.len()));
    if lines.is_empty() { Err(Error::not_found(format_args!("{folder} holds no .md file"))) } else { Ok(lines.join("\n")) }
}

/// The first sentence that is no heading.
fn first_sentence(text: &str) -> String {
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    let body = body.join(" ");
    body.split_inclusive(['.', '!', '?']).next().unwrap_or("(empty)").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use cantrip_guest::testing::Gates;

    #[test]
    fn every_file_is_summarised_by_its_first_sentence() {
        let gates = Gates::new().file("docs/a.md", "# A\n\nOne. Two.").file("docs/b.md", "Three!").file("docs/c.txt", "no");
        let ran = gates.run(|| super::run("Summarise docs/"));
        assert_eq!(ran.result.as_deref(), Ok("a.md: One.\nb.md: Three!"));
        assert_eq!(ran.calls.len(), 3);
    }

    #[test]
    fn nothing_is_read_without_a_gate() {
        let ran = Gates::new().run(|| super::run("Summarise docs/"));
        assert_eq!(ran.result.unwrap_err().kind(), "denied");
    }
}

//! Returns the first paragraph of the file that the intent names, for example `Read README.md`.

use cantrip_guest::{Error, log, read_file};

#[cantrip_guest::main]
pub fn run(intent: &str) -> Result<String, Error> {
    let path = intent.split_whitespace().last().ok_or_else(|| Error::invalid("name a file, as in `Read README.md`"))?;
    let text = read_file::read(path)?;
    log::info(format_args!("{path} has {} bytes", text.len()));
    let paragraphs = text.split("\n\n").map(str::trim);
    let first = paragraphs.filter(|it| !it.is_empty() && !it.starts_with('#')).next();
    first.map(str::to_owned).ok_or_else(|| Error::failed(format_args!("{path} has no paragraph")))
}

#[cfg(test)]
mod tests {
    use cantrip_guest::testing::Gates;

    #[test]
    fn the_first_paragraph_is_returned_and_headings_are_not() {
        let ran = Gates::new().file("README.md", "# Title\n\nFirst.\n\nSecond.").run(|| super::run("Read README.md"));
        assert_eq!(ran.result.as_deref(), Ok("First."));
        assert_eq!(ran.calls[0].gate, "read_file");
    }
}

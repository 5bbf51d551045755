//! Values of a file that are to be others: `loom fork --set`.

/// A value of a cantrip file that is to be another: `circle.wards.max_turns=5`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Change {
    keys: Vec<String>,
    value: toml::Value,
}

impl Change {
    /// Reads `KEY=VALUE`; a value that is none in TOML is text.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no KEY=VALUE"))?;
        let keys: Vec<String> = key.split('.').map(|key| key.trim().to_owned()).collect();
        if keys.iter().any(String::is_empty) {
            return Err(format!("`{key}` is no key: expected names with dots between, such as circle.wards.max_turns"));
        }
        let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
        Ok(Self { keys, value: parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())) })
    }

    /// The key that is changed.
    pub(super) fn key(&self) -> String {
        self.keys.join(".")
    }

    pub(super) fn apply(&self, table: &mut toml::Table) -> Result<(), String> {
        let Some((last, tables)) = self.keys.split_last() else { return Ok(()) };
        let mut inner = table;
        for key in tables {
            let next = inner.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            inner = next.as_table_mut().ok_or_else(|| format!("`{key}` is no table"))?;
        }
        inner.insert(last.clone(), self.value.clone());
        Ok(())
    }
}

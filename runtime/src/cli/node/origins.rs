//! Nodes through which nothing that runs here may have been called.

use std::collections::BTreeMap;

use crate::domain::ids::{NodeName, NodeNameError};

/// The names in these lists, each with the key of the list that refuses it: what is said of one peer goes before what is said of all.
///
/// # Errors
/// What is no name of a node, with its key.
pub(super) fn refused<const N: usize>(
    lists: [(&str, &Vec<String>); N],
) -> Result<BTreeMap<NodeName, String>, (String, NodeNameError)> {
    let mut refused = BTreeMap::new();
    for (key, names) in lists {
        for name in names {
            refused.insert(name.parse().map_err(|error| (key.to_owned(), error))?, key.to_owned());
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_refused_by_the_key_that_lists_it_and_a_wrong_one_is_named_with_its_key() {
        let [all, own, wrong] = [vec!["lab", "old"], vec!["lab"], vec!["no name"]]
            .map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let refused_by = refused([("refuse_origins", &all), ("peers.b.refuse_origins", &own)]).unwrap();
        let key = |name: &str| refused_by.get(&name.parse::<NodeName>().unwrap()).map(String::as_str);
        assert_eq!([key("lab"), key("old"), key("b")], [Some("peers.b.refuse_origins"), Some("refuse_origins"), None]);
        assert_eq!(refused([("peers.b.refuse_origins", &wrong)]).unwrap_err().0, "peers.b.refuse_origins");
    }
}

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

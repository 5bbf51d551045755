//! The gates of one circle.
//!
//! Owns an ordered set of gates with unique names. The order is the order of insertion, because it is the order in
//! which a model is shown them and a prompt cache must see the same bytes every time. It never calls a gate.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gate::Gate;
use crate::name::GateName;

/// Gates in the order they were inserted, each name once.
#[derive(Debug, Clone, Default)]
pub struct GateSet {
    gates: Vec<Arc<dyn Gate>>,
    places: BTreeMap<GateName, usize>,
}

/// Why a gate was not inserted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateSetError {
    /// Another gate has the name.
    #[error("gate `{0}` is there twice; gates of one circle have different names")]
    Duplicate(GateName),
}

impl GateSet {
    /// A set with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a gate.
    ///
    /// # Errors
    ///
    /// [`GateSetError::Duplicate`] if its name is taken; the set is then unchanged.
    pub fn insert(&mut self, gate: Arc<dyn Gate>) -> Result<(), GateSetError> {
        let name = gate.spec().name.clone();
        if self.places.contains_key(&name) {
            return Err(GateSetError::Duplicate(name));
        }
        self.places.insert(name, self.gates.len());
        self.gates.push(gate);
        Ok(())
    }

    /// The gate of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Gate>> {
        self.places.get(name).and_then(|&place| self.gates.get(place))
    }

    /// Whether a gate of that name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The gates, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<dyn Gate>> + ExactSizeIterator {
        self.gates.iter()
    }

    /// The names, in order.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &GateName> + ExactSizeIterator {
        self.gates.iter().map(|gate| &gate.spec().name)
    }

    /// How many gates there are.
    pub fn len(&self) -> usize {
        self.gates.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// The same set with these names left out.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        self.filtered(|name| !names.contains(&name))
    }

    /// The same set with only these names left in, still in its own order.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        self.filtered(|name| names.contains(&name))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let gates: Vec<Arc<dyn Gate>> =
            self.gates.iter().filter(|gate| keep(gate.spec().name.as_str())).map(Arc::clone).collect();
        let places = gates.iter().enumerate().map(|(place, gate)| (gate.spec().name.clone(), place)).collect();
        Self { gates, places }
    }
}

impl<'a> IntoIterator for &'a GateSet {
    type Item = &'a Arc<dyn Gate>;
    type IntoIter = std::slice::Iter<'a, Arc<dyn Gate>>;

    fn into_iter(self) -> Self::IntoIter {
        self.gates.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    fn names(set: &GateSet) -> Vec<String> {
        set.names().map(ToString::to_string).collect()
    }

    #[test]
    fn order_is_insertion_and_names_are_unique() {
        let mut set = GateSet::new();
        assert!(set.is_empty());
        set.insert(builtin::echo()).expect("first");
        set.insert(builtin::done()).expect("second");
        let error = set.insert(builtin::echo()).expect_err("twice");
        assert!(matches!(&error, GateSetError::Duplicate(name) if name.as_str() == "echo"));
        assert_eq!(names(&set), ["echo", "done"]);
        assert_eq!(set.len(), 2);
        assert!(set.get("done").is_some() && set.get("nothing").is_none());
    }

    #[test]
    fn without_and_only_keep_the_order_and_the_lookup() {
        let mut set = GateSet::new();
        set.insert(builtin::echo()).expect("first");
        set.insert(builtin::done()).expect("second");
        let rest = set.without(&["echo"]);
        assert_eq!(names(&rest), ["done"]);
        assert_eq!(rest.get("done").map(|gate| gate.spec().name.to_string()).as_deref(), Some("done"));
        assert!(!rest.contains("echo"));
        assert_eq!(names(&set.only(&["done", "echo"])), ["echo", "done"]);
    }
}

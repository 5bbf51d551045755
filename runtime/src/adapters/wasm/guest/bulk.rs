//! Counts what compiling a component would take, before anything of it is compiled.
//!
//! The compiler's memory grows with the number of functions, and, within one, with its branches times the values that live across
//! them: a component of some MiB can take all there is. What people's compilers make stays far below these bounds.

use wasmparser::{BinaryReaderError, BlockType, FunctionBody, Operator, Parser, Payload};

use super::manifest::GuestError;
use crate::domain::limits::{GUEST_BRANCH_VALUES_MAX, GUEST_FUNCTION_VALUES_MAX, GUEST_FUNCTIONS_MAX};

/// 4 values. The compiler compares each loop of a function with the others.
const LOOP_PAIR_COST: u64 = 4;

/// What was counted of a component.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bulk {
    pub(super) functions: u64,
    /// Of the function that has most.
    pub(super) function_values: u64,
    /// Of all functions together.
    pub(super) values: u64,
}

/// Refuses what would take more than a machine has.
///
/// # Errors
/// Too much of something, and of what.
#[expect(clippy::wildcard_enum_match_arm, reason = "a format that grows, of which this reads a few parts")]
pub(super) fn check(bytes: &[u8]) -> Result<Bulk, GuestError> {
    let mut bulk = Bulk::default();
    // The most values that any block of the module being read takes or gives.
    let mut arity = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::ModuleSection { .. } => arity = 0,
            Payload::TypeSection(types) => {
                for group in types {
                    for kind in group.map_err(|error| invalid(&error))?.into_types() {
                        if let wasmparser::CompositeInnerType::Func(kind) = &kind.composite_type.inner {
                            arity = arity.max(kind.params().len() as u64).max(kind.results().len() as u64);
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                bulk.functions = bulk.functions.saturating_add(1);
                let values = values(&body, arity).map_err(|error| invalid(&error))?;
                bulk.function_values = bulk.function_values.max(values);
                bulk.values = bulk.values.saturating_add(values);
                bulk.is_bounded()?;
            }
            _ => {}
        }
    }
    Ok(bulk)
}

fn invalid(error: &BinaryReaderError) -> GuestError {
    GuestError::Invalid { offset: error.offset(), what: error.message().to_owned() }
}

impl Bulk {
    fn is_bounded(self) -> Result<(), GuestError> {
        let bounds = [
            ("functions", self.functions, GUEST_FUNCTIONS_MAX),
            ("values across the branches of one function", self.function_values, GUEST_FUNCTION_VALUES_MAX),
            ("values across the branches of all functions", self.values, GUEST_BRANCH_VALUES_MAX),
        ];
        match bounds.into_iter().find(|(_, count, max)| count > max) {
            Some((what, _, max)) => Err(GuestError::Bulk { what, max }),
            None => Ok(()),
        }
    }
}

/// The values that may live across the branches of a function, each counted at each of them.
#[expect(clippy::wildcard_enum_match_arm, reason = "all that is no branch counts for nothing")]
fn values(body: &FunctionBody<'_>, arity: u64) -> Result<u64, BinaryReaderError> {
    let mut locals = arity;
    for group in body.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    let (mut plain, mut typed, mut calls, mut loops) = (1_u64, 0_u64, 0_u64, 0_u64);
    for operator in body.get_operators_reader()? {
        let operator = operator?;
        if matches!(operator, Operator::Loop { .. }) {
            loops = loops.saturating_add(1);
        }
        match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => match blockty {
                BlockType::FuncType(_) => typed = typed.saturating_add(1),
                BlockType::Empty | BlockType::Type(_) => plain = plain.saturating_add(1),
            },
            Operator::Else | Operator::End | Operator::Br { .. } | Operator::BrIf { .. } | Operator::Return => {
                plain = plain.saturating_add(1);
            }
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. } => calls = calls.saturating_add(1),
            Operator::BrTable { targets } => plain = plain.saturating_add(u64::from(targets.len())),
            _ => {}
        }
    }
    let branches = plain.saturating_add(typed).saturating_mul(locals.max(1));
    let loops = loops.saturating_mul(loops).saturating_mul(LOOP_PAIR_COST);
    Ok(branches.saturating_add(calls.saturating_mul(arity)).saturating_add(loops))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of one module.
    fn counted(module: &str) -> Result<Bulk, GuestError> {
        check(&wat::parse_str(format!("(component (core module {module}))")).unwrap())
    }

    fn refused(module: &str) -> String {
        counted(module).unwrap_err().to_string()
    }

    #[test]
    fn what_takes_much_to_compile_is_refused() {
        let many = "(func)".repeat(usize::try_from(GUEST_FUNCTIONS_MAX).unwrap() + 1);
        assert!(refused(&many).contains("100000 functions"));
        let branches = "(br_if 0 (i32.const 0))".repeat(5_000);
        let living = format!("(func (local {}) (block {branches}))", " i32".repeat(1_000));
        assert!(refused(&living).contains("branches of one function"));
        let (values, targets) = (" i32".repeat(1_000), " 0".repeat(1_000));
        let table = format!("(br_table {targets} (local.get 0))").repeat(5);
        let handed_on = format!("(func (param{values}) (block {table}))");
        assert!(refused(&handed_on).contains("branches of one function"));
        let passed = format!("(func $f (param{values}) (result{values}) unreachable {})", "(call $f)".repeat(5_000));
        assert!(refused(&passed).contains("branches of one function"));
        let loops = format!("(func {})", "(loop (br_if 0 (i32.const 0)))".repeat(1_001));
        assert!(refused(&loops).contains("branches of one function"));
        let one = format!("(func (local {}) (block {}))", " i32".repeat(999), "(br_if 0 (i32.const 0))".repeat(3_000));
        let all = usize::try_from(GUEST_BRANCH_VALUES_MAX / 3_000_000).unwrap() + 1;
        assert!(refused(&one.repeat(all)).contains("branches of all functions"));
    }

    #[test]
    fn what_people_build_is_far_below_the_bounds() {
        let built = [
            include_bytes!("../../../../media/javascript/javascript.wasm").as_slice(),
            include_bytes!("../../../../../examples/reader/reader.wasm"),
        ];
        for bytes in built {
            let bulk = check(bytes).unwrap();
            assert!(bulk.functions * 10 < GUEST_FUNCTIONS_MAX, "{bulk:?}");
            assert!(bulk.function_values * 10 < GUEST_FUNCTION_VALUES_MAX, "{bulk:?}");
            assert!(bulk.values * 10 < GUEST_BRANCH_VALUES_MAX, "{bulk:?}");
        }
    }
}

//! What a rendering has spent of its budget: asked before anything is done, so that nothing over the budget is begun.
//!
//! Not responsible for what is done. To add a bound: a field here, one in `Budget`, and an error that names it.

use super::{Budget, RenderError};

/// Bytes that may be read or made for one step.
const STEP: u64 = 64;

/// What an item of a list takes besides its text, in bytes: a value, and the allocation behind it.
pub(super) const ITEM: usize = 64;

pub(super) struct Meter {
    budget: Budget,
    /// In bytes, of which `STEP` are a step.
    spent: u64,
    made: usize,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, spent: 0, made: 0 }
    }

    /// Asks for one step.
    pub(super) fn step(&mut self) -> Result<(), RenderError> {
        self.spend(STEP)
    }

    /// Asks to read so many bytes.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.spend(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// Asks to make a value of at most so many bytes. Values count even when they are gone: it is a bound of memory, too.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.made = self.made.saturating_add(bytes);
        if self.made > self.budget.values {
            return Err(RenderError::Values(self.budget.values));
        }
        self.read(bytes)
    }

    /// Asks to make a list of so many items.
    pub(super) fn make_list(&mut self, items: usize) -> Result<(), RenderError> {
        self.make(items.saturating_mul(ITEM))
    }

    /// Asks whether the output may become so long.
    pub(super) fn output(&self, bytes: usize) -> Result<(), RenderError> {
        if bytes > self.budget.output { Err(RenderError::Output(self.budget.output)) } else { Ok(()) }
    }

    fn spend(&mut self, bytes: u64) -> Result<(), RenderError> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > u64::from(self.budget.steps) * STEP {
            return Err(RenderError::Steps(self.budget.steps));
        }
        Ok(())
    }

    /// Bytes of values that were asked for.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.made
    }
}

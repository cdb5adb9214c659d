//! The ledger, case by case.

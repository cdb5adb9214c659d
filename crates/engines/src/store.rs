//! The ledger: what is known, planned, sent and measured, in SQL.
//!
//! A tenant's own calls go through `TenantStore`, whose every statement carries the tenant's id, and whose transactions
//! PostgreSQL keeps to that tenant's rows besides. Calls over all tenants (the due scan, the worker's batches, recovery)
//! stand on `SystemStore`; each row of a batch still carries its tenant.
//! To add a call: the file of its verb; statements on top, functions below, a case in the contract suite.

pub mod accounts;
pub mod adopt;
pub mod api_keys;
pub mod apply;
pub mod breaker;
pub mod campaign_names;
pub mod campaigns;
pub mod dead_letters;
pub mod dot;
pub mod events;
pub mod fetch;
pub mod first_steps;
pub mod leads;
pub mod outlook;
mod past;
pub mod plan;
mod reactions;
pub mod recover;
pub mod refusals;
pub mod resolve;
pub mod restored;
mod rotate;
pub mod rounds;
pub mod sends;
pub mod setup;
pub mod status;
mod sweep;
pub mod system;
pub mod trials;

use domain::ids::TenantId;

use crate::db::Db;
use crate::dialect::Statement;

/// Entry to the ledger: cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
}

impl Store {
    /// A store on a migrated database.
    pub fn new(db: Db) -> Self {
        Self { db: db.of_system() }
    }

    /// One tenant's rows and no others.
    pub fn tenant(&self, tenant_id: TenantId) -> TenantStore {
        TenantStore { db: self.db.of_tenant(tenant_id), tenant_id }
    }

    /// Calls over all tenants: for the scheduler, the worker and recovery.
    pub fn system(&self) -> SystemStore {
        SystemStore { db: self.db.clone() }
    }

    /// The database below, with all tenants' rows.
    pub fn db(&self) -> &Db {
        &self.db
    }
}

/// One tenant's rows.
#[derive(Clone)]
pub struct TenantStore {
    db: Db,
    tenant_id: TenantId,
}

/// All tenants' rows.
#[derive(Clone)]
pub struct SystemStore {
    db: Db,
}

/// The statements of every file here.
pub(crate) fn statements() -> impl Iterator<Item = &'static [&'static Statement]> {
    [
        accounts::STATEMENTS,
        adopt::STATEMENTS,
        api_keys::STATEMENTS,
        apply::STATEMENTS,
        breaker::STATEMENTS,
        campaign_names::STATEMENTS,
        campaigns::STATEMENTS,
        dead_letters::STATEMENTS,
        dot::STATEMENTS,
        dot::days::STATEMENTS,
        dot::providers::STATEMENTS,
        dot::rate::STATEMENTS,
        dot::refusal::STATEMENTS,
        events::STATEMENTS,
        fetch::STATEMENTS,
        first_steps::STATEMENTS,
        leads::STATEMENTS,
        outlook::STATEMENTS,
        past::STATEMENTS,
        plan::STATEMENTS,
        reactions::STATEMENTS,
        recover::STATEMENTS,
        refusals::STATEMENTS,
        resolve::STATEMENTS,
        restored::STATEMENTS,
        rotate::STATEMENTS,
        rounds::STATEMENTS,
        sends::STATEMENTS,
        setup::STATEMENTS,
        setup::places::STATEMENTS,
        setup::sequence::STATEMENTS,
        setup::starts::STATEMENTS,
        setup::variants::STATEMENTS,
        status::STATEMENTS,
        sweep::STATEMENTS,
        system::STATEMENTS,
        trials::STATEMENTS,
    ]
    .into_iter()
}

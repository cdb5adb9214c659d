//! The tenant that a command is about, by its name or id.
//!
//! Not responsible for tenants of campaigns, which come with these. To add a way to name one: an arm in `the_one`.

use domain::ids::TenantId;

use crate::context::Context;
use crate::exit::Failure;
use crate::problem::{InputErrors, Problem};

/// The tenant of this name or id, with its name.
///
/// # Errors
/// `Input` where there is none; it says which there are.
pub(super) async fn find(ctx: &Context, name_or_id: &str) -> Result<(TenantId, String), Failure> {
    let system = ctx.store.system();
    if let Some(found) = system.find_tenant(name_or_id).await? {
        return Ok(found);
    }
    let problem = Problem::new(format!("there is no tenant `{name_or_id}`")).field("--tenant");
    Err(InputErrors::from(problem.hint(hint(&system.list_tenant_names(20).await?))).into())
}

/// The same, and where none is named the only one that there is.
///
/// # Errors
/// `Input` where there is no such tenant, or none is named and there is not exactly one.
pub(super) async fn the_one(ctx: &Context, name_or_id: Option<&str>) -> Result<(TenantId, String), Failure> {
    if let Some(named) = name_or_id {
        return find(ctx, named).await;
    }
    let known = ctx.store.system().list_tenant_names(20).await?;
    if let [only] = known.as_slice() {
        return find(ctx, only).await;
    }
    let text = if known.is_empty() { "there is no tenant" } else { "there is more than one tenant" };
    Err(InputErrors::from(Problem::new(text).field("--tenant").hint(hint(&known))).into())
}

fn hint(known: &[String]) -> String {
    if known.is_empty() {
        return "there is none yet: `campaign import` of a campaign file makes one; is --data the right directory?"
            .into();
    }
    format!("there is: {}", known.join(", "))
}

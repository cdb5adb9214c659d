//! `penguinmails api-key create|list|revoke`: who may ask the API under `/api/v1` in a tenant's name.
//!
//! The key itself is printed once, by `create`, and never again. Not responsible for its form (`api_key`). To add a verb: a
//! variant and its function.

use clap::Args;
use engines::store::api_keys::{KeyRow, NewKey, WhichKey};
use serde_json::{Value, json};

use super::{Global, Outcome, block_on, output, tenant};
use crate::api_key::{self, ApiKey};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Longest name, in characters.
const LONGEST: usize = 100;
/// Most keys that `list` shows, newest first.
const MOST: u32 = 1_000;

/// Keys of the API under /api/v1
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key that opens one tenant's campaigns, and print it: it cannot be shown again
    #[command(after_help = "\
Examples:
  penguinmails api-key create --name dashboard
  penguinmails api-key create --name dashboard --tenant Acme --json")]
    Create(CreateArgs),
    /// List a tenant's keys, revoked ones too: name, beginning, and when they were last used, to the hour
    #[command(after_help = "Example:\n  penguinmails api-key list --tenant Acme")]
    List(TenantArgs),
    /// Revoke a key: from now on it opens nothing
    #[command(after_help = "\
Examples:
  penguinmails api-key revoke dashboard
  penguinmails api-key revoke pm_3f9a0c5d21e7")]
    Revoke(RevokeArgs),
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct TenantArgs {
    /// Name or id of the tenant; needed where there is more than one
    #[arg(long, value_name = "NAME|ID")]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What the key is for: the name under which it is listed and revoked
    #[arg(long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    tenant: TenantArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Name of the key, or what it begins with
    #[arg(value_name = "NAME|PREFIX")]
    key: String,
    #[command(flatten)]
    tenant: TenantArgs,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        if let Self::Create(args) = &self {
            check_name(&args.name)?;
        }
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            match self {
                Self::Create(args) => create(&ctx, args, global.json).await,
                Self::List(args) => list(&ctx, &args, global.json).await,
                Self::Revoke(args) => revoke(&ctx, &args, global.json).await,
            }
        })?
    }
}

fn refuse<T>(problem: Problem) -> Result<T, Failure> {
    Err(InputErrors::from(problem).into())
}

fn check_name(name: &str) -> Result<(), Failure> {
    let problem = |text: &str| refuse(Problem::new(text).field("--name"));
    if name.trim().is_empty() || name.chars().count() > LONGEST || name.chars().any(char::is_control) {
        return problem("name is empty, longer than 100 characters, or holds a control character");
    }
    if api_key::prefix_in(name).is_some() {
        return problem("name begins like a key (hint: say what the key is for, as `dashboard`)");
    }
    Ok(())
}

async fn create(ctx: &Context, args: CreateArgs, as_json: bool) -> Outcome {
    let (tenant_id, tenant_name) = tenant::the_one(ctx, args.tenant.tenant.as_deref()).await?;
    let key = ApiKey::generate();
    let new = NewKey { id: ctx.clock.uuid_v7(), name: args.name, prefix: key.prefix().to_owned(), hash: key.hash() };
    if !ctx.store.tenant(tenant_id).create_api_key(&new, ctx.clock.now()).await? {
        let text = format!("`{tenant_name}` has a key `{}` in use", new.name);
        return refuse(Problem::new(text).field("--name").hint("another name, or `api-key revoke` it first"));
    }
    if as_json {
        output::print_json(&json!({
            "id": new.id, "tenantId": tenant_id, "tenant": tenant_name, "name": new.name, "prefix": new.prefix,
            "key": key.show(),
        }));
    } else {
        output::note(format_args!("`{}` opens the campaigns of {tenant_name}; it is not shown again:", new.name));
        output::print(key.show());
    }
    Ok(Exit::Done)
}

async fn list(ctx: &Context, args: &TenantArgs, as_json: bool) -> Outcome {
    let (tenant_id, tenant_name) = tenant::the_one(ctx, args.tenant.as_deref()).await?;
    let keys = ctx.store.tenant(tenant_id).list_api_keys(MOST).await?;
    if as_json {
        let keys: Vec<Value> = keys.iter().map(object).collect();
        output::print_json(&json!({ "tenantId": tenant_id, "tenant": tenant_name, "keys": keys }));
    } else if keys.is_empty() {
        output::print(format_args!("{tenant_name}: no keys (hint: `penguinmails api-key create --name NAME`)"));
    } else {
        for key in &keys {
            output::print(line(key));
        }
    }
    Ok(Exit::Done)
}

async fn revoke(ctx: &Context, args: &RevokeArgs, as_json: bool) -> Outcome {
    let (tenant_id, tenant_name) = tenant::the_one(ctx, args.tenant.tenant.as_deref()).await?;
    let prefix = api_key::prefix_in(&args.key);
    let which = prefix.map_or(WhichKey::Name(&args.key), WhichKey::Prefix);
    let Some(key) = ctx.store.tenant(tenant_id).revoke_api_key(which, ctx.clock.now()).await? else {
        // What was given is not said again: it may be a key with something before it.
        let problem = Problem::new(format!("`{tenant_name}` has no such key in use")).field("NAME|PREFIX");
        return refuse(problem.hint("`penguinmails api-key list` shows all"));
    };
    if as_json {
        output::print_json(&object(&key));
    } else {
        output::print(format_args!("{}: revoked ({}…)", key.name, key.prefix));
    }
    Ok(Exit::Done)
}

fn object(key: &KeyRow) -> Value {
    json!({
        "id": key.id, "name": key.name, "prefix": key.prefix, "createdAt": key.created_at,
        "lastUsedAt": key.last_used_at, "revokedAt": key.revoked_at,
    })
}

fn line(key: &KeyRow) -> String {
    let used = key.last_used_at.map_or("never used".to_owned(), |at| format!("last used about {at}"));
    let revoked = key.revoked_at.map_or(String::new(), |at| format!(", revoked {at}"));
    format!("{}  {}…  made {}, {used}{revoked}", key.name, key.prefix, key.created_at)
}

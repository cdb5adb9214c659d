//! `penguinmails account list|pause|resume`: a tenant's email accounts, stopped and let go on by a person.
//!
//! Not responsible for their settings, which a campaign file holds. To add a verb: a variant, and its arm in `run`.

use clap::Args;
use domain::email_account::AccountStatus;
use domain::time::Timestamp;
use engines::store::accounts::AccountRow;
use serde_json::{Value, json};

use super::{Global, Outcome, block_on, output, tenant};
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::problem::{InputErrors, Problem};
use crate::telemetry;

/// Most accounts that `list` shows.
const MOST: u32 = 10_000;

/// Look at email accounts, stop one, or let it go on
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List a tenant's email accounts: whether each may send, why not, and its limits
    #[command(after_help = "Example:\n  penguinmails account list --tenant Acme")]
    List(TenantArgs),
    /// Stop an account: its mails wait, and leads who were not written to go to other accounts of their pool
    #[command(after_help = "Example:\n  penguinmails account pause ana@acme.example")]
    Pause(AccountArgs),
    /// Let an account go on that was paused, by a person or a rule, or whose log-in was refused; what waited is not late
    #[command(after_help = "Example:\n  penguinmails account resume ana@acme.example")]
    Resume(AccountArgs),
}

/// Whose accounts.
#[derive(Debug, Args)]
pub(crate) struct TenantArgs {
    /// Name or id of the tenant; needed where there is more than one
    #[arg(long, value_name = "NAME|ID")]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    /// Address or id of the account
    #[arg(value_name = "EMAIL|ID")]
    account: String,
    #[command(flatten)]
    tenant: TenantArgs,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let config = config::load(&global.options(), &Environment::of_process())?;
        telemetry::init(&config, &Clock::system());
        block_on(async {
            let ctx = Context::open(config, 1.0).await?;
            match self {
                Self::List(args) => list(&ctx, &args, global.json).await,
                Self::Pause(args) => set(&ctx, &args, AccountStatus::Paused, global.json).await,
                Self::Resume(args) => set(&ctx, &args, AccountStatus::Active, global.json).await,
            }
        })?
    }
}

async fn list(ctx: &Context, args: &TenantArgs, as_json: bool) -> Outcome {
    let (tenant_id, tenant_name) = tenant::the_one(ctx, args.tenant.as_deref()).await?;
    let accounts = ctx.store.tenant(tenant_id).list_email_accounts(MOST).await?;
    let now = ctx.clock.now();
    if as_json {
        let accounts: Vec<Value> = accounts.iter().map(|account| object(account, now)).collect();
        output::print_json(&json!({ "tenantId": tenant_id, "tenant": tenant_name, "accounts": accounts }));
    } else if accounts.is_empty() {
        output::print(format_args!("{tenant_name}: no email accounts (hint: a campaign file names them)"));
    } else {
        accounts.iter().for_each(|account| output::print(line(account, now)));
    }
    Ok(Exit::Done)
}

async fn set(ctx: &Context, args: &AccountArgs, status: AccountStatus, as_json: bool) -> Outcome {
    let (tenant_id, tenant_name) = tenant::the_one(ctx, args.tenant.tenant.as_deref()).await?;
    let store = ctx.store.tenant(tenant_id);
    let Some(account) = store.find_email_account(&args.account).await? else {
        let problem = Problem::new(format!("`{tenant_name}` has no such email account")).field("EMAIL|ID");
        return refuse(problem.hint("`penguinmails account list` shows all"));
    };
    if let Some(why) = why_not(&account, status) {
        return refuse(Problem::new(format!("the email account is {}: {why}", account.status)));
    }
    let now = ctx.clock.now();
    store.set_account_status(account.id, status, None, now).await?;
    let account = store.find_email_account(&account.id.to_string()).await?.unwrap_or(account);
    if as_json {
        output::print_json(&object(&account, now));
    } else {
        output::print(line(&account, now));
    }
    Ok(Exit::Done)
}

fn refuse<T>(problem: Problem) -> Result<T, Failure> {
    Err(InputErrors::from(problem).into())
}

/// Why an account cannot be brought into a status, if so. A person's pause outlasts a rule's, and a refused log-in: neither an edit nor
/// `campaign resume` lifts it.
fn why_not(account: &AccountRow, to: AccountStatus) -> Option<&'static str> {
    match (account.status, to == AccountStatus::Active) {
        (AccountStatus::Paused | AccountStatus::AuthenticationFailed, true) => None,
        (AccountStatus::Active | AccountStatus::AuthenticationFailed, false) => None,
        (AccountStatus::Paused, false) => account.status_reason.is_none().then_some("a person has paused it"),
        (AccountStatus::Active, true) => Some("nobody has stopped it"),
        (AccountStatus::Suspended, _) => Some("another program has suspended it, and has to lift that"),
        (AccountStatus::Deleted, _) => Some("nothing is sent from it any more"),
    }
}

/// Until when it waits; a wait that is over keeps its time in the ledger.
fn waits_until(account: &AccountRow, now: Timestamp) -> Option<Timestamp> {
    account.backoff_until.filter(|until| *until > now)
}

fn object(account: &AccountRow, now: Timestamp) -> Value {
    json!({
        "id": account.id, "email": account.email, "status": account.status, "statusReason": account.status_reason,
        "dailyLimit": account.daily_limit, "minGapSeconds": account.min_gap_seconds, "backoffUntil": waits_until(account, now),
    })
}

fn line(account: &AccountRow, now: Timestamp) -> String {
    let why = account.status_reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let limit = account.daily_limit.map_or("no daily limit".to_owned(), |most| format!("{most} a day"));
    let wait = waits_until(account, now).map_or(String::new(), |at| format!(", waits for its server until {at}"));
    format!("{}: {}{why}, {limit}, {} s apart{wait}", account.email, account.status, account.min_gap_seconds)
}

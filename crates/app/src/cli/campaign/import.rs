//! `penguinmails campaign import FILE`: sets a campaign up for processes that run apart.

use serde_json::json;

use super::super::{Global, Outcome, block_on, output};
use super::ImportArgs;
use crate::campaign_file::{self, LoadOptions};
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::{clock, setup, telemetry};

pub(super) fn run(args: &ImportArgs, global: &Global) -> Outcome {
    let env = Environment::of_process();
    let config = config::load(&global.options(), &env)?;
    let smtp = args.file.smtp()?;
    let options = LoadOptions {
        env: &env,
        settings: &config.settings,
        smtp: smtp.as_ref(),
        keeps_servers: false,
        skip_bad_rows: args.file.skip_bad_rows,
        update: args.edit.update,
        reopen: args.edit.reopen,
    };
    let campaign = campaign_file::load(&args.file.file, &options)?;
    telemetry::init(&config, &clock::Clock::system());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let report = setup::set_up(&ctx, &campaign, &|_| {}).await?;
        args.edit.tell(&report);
        let mut started = false;
        if args.start {
            let tenant = ctx.store.tenant(report.tenant_id);
            started = setup::start(&tenant, report.campaign_id, report.scheduled_at, ctx.clock.now()).await?;
        }
        let (id, leads) = (report.campaign_id, campaign.leads.rows);
        if global.json {
            output::print_json(&json!({ "campaignId": id, "leads": leads, "started": started }));
        } else {
            let state = if started { ", started" } else { "" };
            output::print(format_args!("{}: {leads} leads{state} ({id})", campaign.setup.campaign));
        }
        Ok(Exit::Done)
    })?
}

//! Campaign files: the example of the product, and what each section makes of its keys.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::email_account::TlsMode;
use domain::step::{Condition, ConditionType, StepType};
use engines::store::setup::Kept;
use secrecy::ExposeSecret as _;

use super::*;

const HEAD: &str = r#"
[tenant]
name = "Acme"
[company]
name = "Acme Ltd"
address = """1 Main Street
12345 Springfield"""
[[email_account]]
email = "ana@acme.test"
smtp = "smtp://ana@mail.acme.test"
password_env = "SMTP_PASSWORD"
"#;

fn write(file: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("leads.csv"), "email\nbo@acme.test\n").unwrap();
    std::fs::write(dir.path().join("a.html"), "\u{feff}<p>Hello {{ firstName }}</p>").unwrap();
    let path = dir.path().join("campaign.toml");
    std::fs::write(&path, file).unwrap();
    (dir, path)
}

fn load_with(file: &str, env: &Environment, smtp: Option<&SmtpUrl>) -> Result<CampaignSetup, String> {
    let (_dir, path) = write(file);
    let settings = Settings::default();
    let options = LoadOptions {
        env,
        settings: &settings,
        smtp,
        keeps_servers: false,
        skip_bad_rows: false,
        update: false,
        reopen: false,
    };
    load(&path, &options).map_err(|errors| errors.to_string())
}

#[test]
fn the_example_of_the_product_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/welcome/campaign.toml");
    let (env, settings) = (Environment::default(), Settings::default());
    let options = LoadOptions {
        env: &env,
        settings: &settings,
        smtp: None,
        keeps_servers: false,
        skip_bad_rows: false,
        update: false,
        reopen: false,
    };
    let loaded = load(&path, &options).unwrap();
    assert_eq!((loaded.setup.steps.len(), loaded.setup.accounts.len(), loaded.servers.len()), (3, 2, 2));
    assert_eq!((loaded.setup.campaign.as_str(), loaded.leads.skipped), ("Welcome", 0));
    assert!(loaded.leads.rows >= 200);
}

#[test]
fn every_kind_of_step_and_key_is_taken() {
    let file = format!(
        "{HEAD}from_name = \"Ana\"\nreply_to = \"re@acme.test\"\ndaily_limit = 7\nmin_gap_seconds = 120\n\
         warmup_started_at = 2026-03-01T00:00:00Z\ntimezone = \"Europe/Madrid\"\n\
         [campaign]\nname = \"W\"\nleads = \"leads.csv\"\nscheduled_at = 2026-03-01 09:00:00+01:00\npriority = 7\n\
         windows = [{{ days = [\"mon\"], end = \"12:00\" }}, {{ start = \"14:00\" }}]\n\
         holidays = [2026-12-25, \"2026-01-01\"]\nmax_lateness = 24\non_unknown = \"hold\"\n\
         [[step]]\nsubject = \"Hi {{{{ firstName }}}}\"\nhtml = \"a.html\"\ntext = \"a.html\"\n\
         [[step]]\ntype = \"wait\"\nwait_hours = 48\nwait_until = 2026-04-01T00:00:00Z\n\
         [[step]]\ntype = \"condition\"\ncondition = \"no_open\"\nvalue = \"stop\"\nwithin_hours = 36\n\
         [[step]]\ntype = \"condition\"\ncondition = \"clicked\"\nurl = \" /prices \"\n\
         [[step]]\nkey = \"again\"\nactive = false\nwait_hours = 0.5\nsubject = \"Again\"\nhtml = \"a.html\"\nemail_account = \"ANA@acme.test\"\n"
    );
    let loaded = load_with(&file, &Environment::from([("SMTP_PASSWORD", "hunter2")]), None).unwrap();
    let (setup, server) = (&loaded.setup, &loaded.servers[0]);
    assert_eq!(setup.company_address, "1 Main Street\n12345 Springfield");
    assert_eq!(server.password.as_ref().unwrap().expose_secret(), "hunter2");
    assert_eq!((server.settings.port, server.settings.tls, &server.settings.password), (587, TlsMode::Starttls, &None));
    assert_eq!(setup.accounts[0].timezone.name(), "Europe/Madrid");
    assert_eq!((setup.accounts[0].daily_limit, setup.accounts[0].min_gap_seconds), (Some(7), 120));
    assert_eq!(setup.scheduled_at.unwrap().to_string(), "2026-03-01T08:00:00Z");
    assert_eq!((setup.settings.priority, setup.settings.holidays.len()), (7, 2));
    assert_eq!((setup.settings.windows.len(), setup.settings.windows[0].end), (2, "12:00".parse().unwrap()));
    let kinds: Vec<StepType> = setup.steps.iter().map(|step| step.step_type).collect();
    assert_eq!(kinds, [StepType::Email, StepType::Wait, StepType::Condition, StepType::Condition, StepType::Email]);
    let opened = Condition { within: Some(Duration::from_secs(36 * 3600)), ..ConditionType::NotOpened.into() };
    assert_eq!((&setup.steps[2].condition, setup.steps[2].stop_if_false), (&opened, true));
    let clicked = Condition { url_part: Some("/prices".into()), ..ConditionType::Clicked.into() };
    assert_eq!((&setup.steps[3].condition, setup.steps[3].stop_if_false), (&clicked, false));
    assert_eq!((setup.steps[4].wait_hours, setup.steps[4].account), (0.5, Some(0)));
    assert_eq!((setup.steps[4].key.as_deref(), setup.steps[4].is_active), (Some("again"), false));
    assert_eq!((&setup.steps[3].key, setup.steps[3].is_active), (&None, true));
    let template = setup.steps[0].template.as_ref().unwrap();
    assert_eq!(template.html, "<p>Hello {{ firstName }}</p>", "a byte order mark is no content");
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn an_account_keeps_the_limits_of_which_a_file_says_nothing() {
    let account = |keys: &str| {
        let file = format!(
            "{HEAD}{keys}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n"
        );
        let loaded = load_with(&file, &Environment::from([("SMTP_PASSWORD", "hunter2")]), None);
        loaded.map(|loaded| loaded.setup.accounts[0].clone())
    };
    let all = [Kept::DailyLimit, Kept::MinGap, Kept::Warmup, Kept::Zone];
    assert_eq!(account("").unwrap().keeps, BTreeSet::from(all));
    let given =
        account("daily_limit = 7\nmin_gap_seconds = 0\nwarmup_started_at = 2026-03-01T00:00:00Z\ntimezone = \"UTC\"\n");
    let given = given.unwrap();
    assert_eq!((given.daily_limit, given.warmup_started_at.is_some(), given.keeps), (Some(7), true, BTreeSet::new()));
    let none = account("daily_limit = \"none\"\nwarmup_started_at = \"none\"\n").unwrap();
    let kept = BTreeSet::from([Kept::MinGap, Kept::Zone]);
    assert_eq!((none.daily_limit, none.warmup_started_at, none.keeps), (None, None, kept));
    let refused = account("daily_limit = \"many\"\n").unwrap_err();
    assert!(refused.contains("`email_account[1].daily_limit`: wrong type"), "{refused}");
}

#[test]
fn what_is_not_measured_decides_nothing() {
    let refused = |settings: &str, steps: &str| {
        let mail = "[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n";
        let file = format!("{HEAD}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n{settings}\n{mail}{steps}{mail}");
        load_with(&file, &Environment::from([("SMTP_PASSWORD", "hunter2")]), None).err().unwrap_or_default()
    };
    let condition = |asks: &str| format!("[[step]]\ntype = \"condition\"\ncondition = \"{asks}\"\n");
    let trial = |by: &str| {
        format!(
            "[[step]]\nhtml = \"a.html\"\nwinner = {{ by = \"{by}\", after_hours = 24, sample_percent = 20 }}\n\
             [[step.variant]]\nkey = \"a\"\nsubject = \"A\"\n[[step.variant]]\nkey = \"b\"\nsubject = \"B\"\n"
        )
    };
    let steps = [condition("opened"), condition("not_clicked"), condition("replied"), trial("opens"), trial("clicks")];
    for (settings, wrong) in [("", [].as_slice()), ("track_opens = false", &[0, 3]), ("track_clicks = false", &[1, 4])]
    {
        for (n, step) in steps.iter().enumerate() {
            let said = refused(settings, step);
            assert_eq!(said.contains("`step[2]`: asks for"), wrong.contains(&n), "{settings} {step}: {said}");
            assert_eq!(said.is_empty(), !wrong.contains(&n), "{said}");
        }
    }
}

#[test]
fn another_server_needs_no_password_of_the_accounts_own() {
    let file = format!(
        "{HEAD}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n"
    );
    let refused = load_with(&file, &Environment::default(), None).unwrap_err();
    assert!(refused.contains("`email_account[1].password_env`: the variable `SMTP_PASSWORD` is not set"), "{refused}");
    let sink: SmtpUrl = "smtp://127.0.0.1:2525?tls=none".parse().unwrap();
    let loaded = load_with(&file, &Environment::default(), Some(&sink)).unwrap();
    assert_eq!((loaded.servers[0].settings.port, loaded.servers[0].password.is_none()), (2525, true));
    let without_own = file.replace("smtp = \"smtp://ana@mail.acme.test\"\n", "");
    assert!(load_with(&without_own, &Environment::default(), Some(&sink)).is_ok());
}

#[test]
fn a_default_limit_of_the_configuration_applies_where_the_file_gives_none() {
    let file = format!(
        "{HEAD}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n"
    );
    let (_dir, path) = write(&file);
    let mut settings = Settings::default();
    settings.email_account.daily_limit = Some(50);
    let env = Environment::from([("SMTP_PASSWORD", "x")]);
    let options = LoadOptions {
        env: &env,
        settings: &settings,
        smtp: None,
        keeps_servers: false,
        skip_bad_rows: false,
        update: true,
        reopen: false,
    };
    let loaded = load(&path, &options).unwrap();
    assert_eq!((loaded.setup.accounts[0].daily_limit, loaded.setup.update), (Some(50), true));
}

#[test]
fn a_tenants_rate_is_a_number_or_none() {
    let file = |rate: &str| {
        let head = HEAD.replace("[company]", &format!("{rate}\n[company]"));
        let file = format!(
            "{head}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n"
        );
        load_with(&file, &Environment::from([("SMTP_PASSWORD", "x")]), None).map(|loaded| loaded.setup.tenant_rate)
    };
    assert_eq!(file("").unwrap(), TenantRate::Keep);
    assert_eq!(file("max_per_second = 5").unwrap(), TenantRate::PerSecond(5.0));
    assert_eq!(file("max_per_second = 0.5").unwrap(), TenantRate::PerSecond(0.5));
    assert_eq!(file("max_per_second = \"none\"").unwrap(), TenantRate::None);
    for wrong in ["0", "-1", "inf", "nan", "\"5\"", "true"] {
        let refused = file(&format!("max_per_second = {wrong}")).unwrap_err();
        assert!(refused.contains("`tenant.max_per_second`: must be a number above 0, or \"none\""), "{refused}");
    }
}

#[test]
fn limits_of_providers_are_numbers_by_provider() {
    let file = |limits: &str| {
        let head = HEAD.replace("[company]", &format!("{limits}\n[company]"));
        let file = format!(
            "{head}[campaign]\nname = \"W\"\nleads = \"leads.csv\"\n[[step]]\nsubject = \"Hi\"\nhtml = \"a.html\"\n"
        );
        load_with(&file, &Environment::from([("SMTP_PASSWORD", "x")]), None).map(|loaded| loaded.setup.provider_limits)
    };
    let limit = |provider: &str, keys: &str| format!("[[tenant.provider_limits]]\nprovider = \"{provider}\"\n{keys}\n");
    assert_eq!(file("").unwrap(), None, "what is stored stays");
    assert_eq!(file("provider_limits = \"none\"").unwrap(), Some(Vec::new()));
    let two = limit("GoogleMail.com", "per_hour = 5") + &limit("acme.test", "per_hour = 1\nper_day = 2");
    let read = file(&two).unwrap().unwrap();
    let read: Vec<_> = read.iter().map(|limit| (limit.provider.as_str(), limit.per_hour, limit.per_day)).collect();
    assert_eq!(read, [("google.com", Some(5), None), ("acme.test", Some(1), Some(2))]);
    for (wrong, says) in [
        ("provider_limits = 5".to_owned(), "must be a list of limits"),
        ("provider_limits = \"all\"".into(), "must be a list of limits"),
        (limit("google.com", ""), "has neither `per_hour` nor `per_day`"),
        (limit("google.com", "per_hour = 0"), "must be 1 to"),
        (limit("google.com", "per_hour = -1"), "must be a list of limits"),
        (limit("google.com", "per_hour = 5\nper_week = 9"), "per_week"),
        (limit("ana@google.com", "per_day = 5"), "is no domain"),
        (limit("", "per_day = 5"), "is no domain"),
        (limit("google.com", "per_day = 5") + &limit("gmail.com", "per_day = 6"), "stands there twice"),
    ] {
        let refused = file(&wrong).unwrap_err();
        assert!(refused.contains("`tenant.provider_limits`") && refused.contains(says), "{wrong}: {refused}");
    }
}

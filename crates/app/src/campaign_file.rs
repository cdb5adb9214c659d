//! Campaign files: TOML, templates and a list of leads, wholly read and checked before anything is written anywhere.
//!
//! What comes out is the store's `Setup`, the servers with their passwords still plain in memory, and a list of leads
//! that is known to be good. Not responsible for storing any of it (`setup`).
//! To add a key: ask for it in the section it stands in; a setting of campaigns: in `domain::campaign`, nothing here.

mod accounts;
mod campaign;
mod providers;
pub(crate) mod smtp_url;
mod steps;
mod templates;
mod variants;

use std::path::{Path, PathBuf};

use domain::email_account::SmtpSettings;
use domain::pace::ProviderLimit;
use engines::store::setup::{Setup, TenantRate};
use secrecy::SecretString;

use crate::config::{Environment, Settings};
use crate::leads_csv::{self, LeadList, Source};
use crate::problem::{InputErrors, Place, Problem, Problems};
use crate::toml_input::{Document, Section, Spot};
use smtp_url::SmtpUrl;

/// Most bytes of a campaign file.
const MAX_FILE: u64 = 4 << 20;

/// What a campaign file is read with.
pub(crate) struct LoadOptions<'a> {
    /// Where passwords stand.
    pub(crate) env: &'a Environment,
    /// Limits of new accounts that give none, and whether plain log-ins are allowed.
    pub(crate) settings: &'a Settings,
    /// Sends everything here instead of over the accounts' own servers.
    pub(crate) smtp: Option<&'a SmtpUrl>,
    /// Whether `smtp` is for this process alone: accounts that are there keep their server.
    pub(crate) keeps_servers: bool,
    /// Whether bad rows of the list are left out instead of refused.
    pub(crate) skip_bad_rows: bool,
    /// Whether steps that are added, left out or moved are meant.
    pub(crate) update: bool,
    /// Whether leads who have finished go on with added steps.
    pub(crate) reopen: bool,
}

/// A campaign that can be set up.
#[derive(Debug)]
pub(crate) struct CampaignSetup {
    /// All but the leads and the passwords.
    pub(crate) setup: Setup,
    /// The accounts' servers, in the order of `setup.accounts`.
    pub(crate) servers: Vec<AccountServer>,
    /// Who is mailed.
    pub(crate) leads: LeadList,
}

/// Where an account hands its mail over.
#[derive(Clone, Debug)]
pub(crate) struct AccountServer {
    /// The server, without password.
    pub(crate) settings: SmtpSettings,
    /// The password; none where there is no log-in.
    pub(crate) password: Option<SecretString>,
}

/// Reads and checks the file at `path` and every file that it names.
///
/// # Errors
/// Everything that has to be mended, at once. Nothing was written.
pub(crate) fn load(path: &Path, options: &LoadOptions<'_>) -> Result<CampaignSetup, InputErrors> {
    let name = path.display().to_string();
    let text = read_text(path, MAX_FILE).map_err(|problem| problem.at(Place::file(&name)))?;
    let document = Document::parse(&name, &text)?;
    let problems = Problems::default();
    let reader = Reader { base: path.parent().unwrap_or(Path::new("")), options, problems: &problems };
    let loaded = reader.file(&document);
    problems.into_result()?;
    loaded.ok_or_else(|| Problem::new("campaign file is incomplete").at(Place::file(name)).into())
}

/// Reads one campaign file; the sections have a file each below this module.
struct Reader<'a> {
    base: &'a Path,
    options: &'a LoadOptions<'a>,
    problems: &'a Problems,
}

impl Reader<'_> {
    /// None where a problem was noted.
    fn file(&self, document: &Document<'_>) -> Option<CampaignSetup> {
        let mut root = document.root(self.problems);
        let tenant = self.tenant(&mut root);
        let company = self.company(&mut root);
        let accounts = self.accounts(&mut root);
        let campaign = self.campaign(&mut root);
        let settings = campaign.as_ref().map(|campaign| &campaign.settings);
        let steps = self.steps(&mut root, &accounts, settings);
        root.finish();
        let (tenant, tenant_rate, provider_limits) = tenant?;
        let (company, company_address) = company?;
        let campaign = campaign?;
        let (accounts, servers): (Vec<_>, Vec<_>) = accounts.into_iter().map(|a| (a.setup, a.server)).unzip();
        Some(CampaignSetup {
            setup: Setup {
                tenant,
                tenant_rate,
                provider_limits,
                company,
                company_address,
                accounts,
                campaign: campaign.name,
                description: campaign.description,
                scheduled_at: campaign.scheduled_at,
                settings: campaign.settings,
                steps,
                update: self.options.update,
                reopen: self.options.reopen,
            },
            servers,
            leads: campaign.leads,
        })
    }

    /// Name, rate and limits of providers.
    fn tenant(&self, root: &mut Section<'_>) -> Option<(String, TenantRate, Option<Vec<ProviderLimit>>)> {
        let mut section = self.section(root, "tenant", "[tenant] with name = \"…\" says whose campaign it is")?;
        let name = section.require("name", "the tenant is found by its name when the file is run again");
        let rate = section.take::<serde_json::Value>("max_per_second").map(|spot| self.rate(&spot));
        let limits = section.take::<serde_json::Value>("provider_limits").map(|spot| self.provider_limits(&spot));
        section.finish();
        Some((self.one_line(name?)?, rate.unwrap_or_default(), limits))
    }

    fn rate(&self, spot: &Spot<serde_json::Value>) -> TenantRate {
        let rate = spot.value.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
        match (rate, spot.value.as_str()) {
            (Some(rate), _) => TenantRate::PerSecond(rate),
            (None, Some("none")) => TenantRate::None,
            (None, _) => {
                let hint =
                    "messages a second over all campaigns of the tenant, e.g. 5 or 0.5; \"none\" takes the limit away";
                self.problems.add(spot.problem("must be a number above 0, or \"none\"").hint(hint));
                TenantRate::Keep
            }
        }
    }

    /// Name and postal address.
    fn company(&self, root: &mut Section<'_>) -> Option<(String, String)> {
        let hint = "the law wants name and postal address of the sender in every mail: [company] name, address";
        let mut section = self.section(root, "company", hint)?;
        let name = section.require("name", hint);
        let address: Option<Spot<String>> = section.require("address", hint);
        section.finish();
        let name = name.and_then(|name| self.one_line(name));
        let address = address?;
        if address.value.trim().is_empty() {
            self.problems.add(address.problem("postal address is empty").hint(hint));
            return None;
        }
        if address.value.chars().any(|c| c.is_control() && c != '\n') {
            self.problems.add(address.problem("postal address holds a control character"));
            return None;
        }
        Some((name?, address.value.trim().to_owned()))
    }

    /// A section that must be there.
    fn section<'d>(&self, root: &mut Section<'d>, key: &str, hint: &str) -> Option<Section<'d>> {
        if !root.has(key) {
            self.problems.add(root.problem(format!("missing section `[{key}]`")).hint(hint));
        }
        root.section(key)
    }

    /// A text that can stand in a header or a list: not empty, one line, at most 255 characters.
    fn one_line(&self, spot: Spot<String>) -> Option<String> {
        let text = spot.value.trim();
        let rule = if text.is_empty() {
            "must not be empty"
        } else if text.chars().any(char::is_control) {
            "holds a control character (hint: a line break or a tab, perhaps by copying)"
        } else if text.chars().count() > 255 {
            "is longer than 255 characters"
        } else {
            return Some(text.to_owned());
        };
        self.problems.add(spot.problem(rule));
        None
    }

    /// A path that the file names: relative to the file itself.
    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    fn leads(&self, spot: &Spot<String>) -> Option<LeadList> {
        let path = self.path(&spot.value);
        if !path.is_file() {
            let problem = spot.problem(format!("there is no file `{}`", path.display()));
            self.problems.add(problem.hint("the path is relative to the campaign file"));
            return None;
        }
        let source = self.problems.ok(Source::open(&path))?;
        leads_csv::check(source, self.options.skip_bad_rows, self.problems)
    }
}

/// A whole text file of at most `max` bytes; a byte order mark is dropped.
fn read_text(path: &Path, max: u64) -> Result<String, Problem> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    read.map_err(|error| Problem::new(format!("failed to read the file: {error}")))?;
    if bytes.len() as u64 > max {
        return Err(Problem::new(format!("file is larger than {} MiB", max >> 20)));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => {
            let line = text.split('\0').next().map_or(1, |before| before.matches('\n').count() + 1);
            Err(Problem::new(format!("line {line} holds a NUL (hint: save the file as text)")))
        }
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Problem::new(format!("line {line} is not UTF-8 (hint: save the file as UTF-8)")))
        }
    }
}

#[cfg(test)]
mod tests;

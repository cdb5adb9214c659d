//! `[[tenant.provider_limits]]`: how many messages an hour and a day a tenant sends at most to one provider of mailboxes.
//!
//! Not responsible for keeping to it (`domain::pace`). To add a key: a field of `ProviderLimit` and of `Given`.

use domain::pace::ProviderLimit;
use domain::provider;
use serde::Deserialize;

use super::Reader;
use crate::toml_input::Spot;

/// More than anybody sends.
const MOST: u32 = 1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    provider: String,
    per_hour: Option<u32>,
    per_day: Option<u32>,
}

impl Reader<'_> {
    /// The limits; none of them where a problem was noted, or where `"none"` takes all away.
    pub(super) fn provider_limits(&self, spot: &Spot<serde_json::Value>) -> Vec<ProviderLimit> {
        if spot.value.as_str() == Some("none") {
            return Vec::new();
        }
        let hint = "[[tenant.provider_limits]] with provider = \"google.com\" and per_hour or per_day; \
            provider_limits = \"none\" takes all away";
        let refuse = |text: String| {
            self.problems.add(spot.problem(text).hint(hint));
            Vec::new()
        };
        let given: Vec<Given> = match serde_json::from_value(spot.value.clone()) {
            Ok(given) => given,
            Err(error) => return refuse(format!("must be a list of limits: {error}")),
        };
        let mut limits: Vec<ProviderLimit> = Vec::new();
        for Given { provider, per_hour, per_day } in given {
            let name = provider::of_name(provider.trim());
            let is_good = |limit: Option<u32>| limit.is_none_or(|most| (1..=MOST).contains(&most));
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '@' || c.is_control()) {
                return refuse("a `provider` is no domain".into());
            }
            if per_hour.is_none() && per_day.is_none() {
                return refuse(format!("`{name}` has neither `per_hour` nor `per_day`"));
            }
            if !is_good(per_hour) || !is_good(per_day) {
                return refuse(format!("`per_hour` and `per_day` of `{name}` must be 1 to {MOST}"));
            }
            if limits.iter().any(|limit| limit.provider == name) {
                return refuse(format!("`{name}` stands there twice, perhaps by another of its names"));
            }
            limits.push(ProviderLimit { provider: name, per_hour, per_day });
        }
        limits
    }
}

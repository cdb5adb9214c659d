//! Tokens of real mails in a stranger's hands: npm's `jsonwebtoken` verifies ours, and makes ones that we must judge.

use std::process::Command;

use serde_json::Value;

use crate::app::{App, Engine, SECRET, Sink, service};
use crate::tracker::{Tracker, one_mail};

const SCRIPT: &str = r#"
const jwt = require("jsonwebtoken");
const [token, secret] = process.argv.slice(1);
const claims = jwt.verify(token, secret, { algorithms: ["HS256"] });
const { exp, iat, ...plain } = claims;
const altered = token.slice(0, -2) + (token.endsWith("AA") ? "BB" : "AA");
console.log(JSON.stringify({
  claims,
  fresh: jwt.sign(claims, secret, { noTimestamp: true }),
  expired: jwt.sign({ ...plain, exp: 1000 }, secret, { noTimestamp: true }),
  invalid: {
    altered,
    none: jwt.sign(plain, "", { algorithm: "none", noTimestamp: true }),
    otherKey: jwt.sign(claims, "x".repeat(32), { noTimestamp: true }),
    otherAlgorithm: jwt.sign(claims, secret, { algorithm: "HS384", noTimestamp: true }),
    otherPurpose: jwt.sign({ ...claims, purpose: "unsubscribe" }, secret, { noTimestamp: true }),
    evil: jwt.sign({ ...claims, url: "javascript:alert(1)", tenantId: 7 }, secret, { noTimestamp: true }),
    rubbish: "rubbish",
  },
}));
"#;

#[test]
fn a_strangers_library_agrees_with_ours() {
    let (Some(app), Some(packages)) = (App::new(Engine::Sqlite), service("TEST_NODE_PATH")) else { return };
    let sink = Sink::start(&app, &[]);
    let mail = one_mail(&app, &sink);
    let token_of = |part: &str| {
        let link = mail.links.iter().find(|link| link.contains(part)).unwrap();
        link.split("token=").nth(1).unwrap().to_owned()
    };
    let mut tracker = Tracker::start(&app);
    for (route, expired_status) in [("/api/track/open", 200), ("/api/track/click", 302)] {
        let token = token_of(route);
        let output =
            Command::new("node").args(["-e", SCRIPT, &token, SECRET]).env("NODE_PATH", &packages).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["tenantId", "leadId", "campaignId", "stepId"] {
            assert_eq!(made["claims"][field].as_str().unwrap().len(), 36);
        }
        assert!(made["claims"].as_object().unwrap().len() <= 7, "no personal data");
        let mut ask = |token: &str| tracker.ask("GET", &format!("{route}?token={token}"));
        assert_eq!(ask(made["fresh"].as_str().unwrap()).status, if route.ends_with("open") { 200 } else { 302 });
        assert_eq!(ask(made["expired"].as_str().unwrap()).status, expired_status);
        let constant = ask("");
        assert_eq!(constant.status, 400);
        for (name, token) in made["invalid"].as_object().unwrap() {
            assert_eq!(ask(token.as_str().unwrap()), constant, "{name}: every bad token gets the same answer");
        }
    }
    assert_eq!(tracker.ask("GET", "/api/track/other").status, 404);
    let refused = tracker.ask("DELETE", "/api/track/open");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    // One open and one click were real; expired and invalid ones are not counted.
    let report = app.json(&["run", app.path("campaign.toml").to_str().unwrap(), "--smtp", &sink.url]).1;
    assert_eq!(report["sent"], 1);
    let (_, queue) = app.json(&["queue", "status"]);
    let events: u64 = queue["lanes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["name"] == "queue:analytics-processing")
        .map(|l| l["ready"].as_u64().unwrap())
        .sum();
    let (_, status) = app.json(&["campaign", "status", "Welcome"]);
    let counted = status["opens"].as_u64().unwrap() + status["clicks"].as_u64().unwrap();
    assert_eq!(events + counted, 2);
}

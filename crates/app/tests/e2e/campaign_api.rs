//! The API under `/api/v1` on the real server: it says what the commands say, to whoever has a key and about nobody else.
//!
//! Foreign ids are tried on every route by `foreign_ids`. To add a question: its path in `questions`.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::app::{App, Engine, Process, Reading};
use crate::http::{Answer, ask};

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// A server with a started campaign for each of two tenants, which begins in two days.
struct Scene {
    app: App,
    address: String,
    campaign_id: String,
    key: String,
}

impl Scene {
    fn new(engine: Engine) -> Option<(Self, Reading)> {
        Self::with(engine, &[]).map(|(scene, server)| (scene, server.read_on()))
    }

    fn with(engine: Engine, env: &[(&str, &str)]) -> Option<(Self, Process)> {
        let mut app = App::new(engine)?;
        app.set("LOG_LEVEL", "debug");
        let campaign_id = import(&app, "one.example", "Frühling / 1");
        import(&app, "two.example", "Welcome");
        let mut server = app.spawn_with(&["serve", "--only", "api"], env);
        let address = server.value_after("cron API listens address=");
        let key = create(&app, "grafana", "Acme one.example");
        Some((Self { app, address, campaign_id, key }, server))
    }

    fn get(&self, path: &str, key: &str) -> Answer {
        ask(&self.address, "GET", path, &format!("Authorization: Bearer {key}\r\n"))
    }

    /// The object that a path gives to the first tenant.
    fn object(&self, path: &str) -> Value {
        let answer = self.get(path, &self.key);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        answer.json()
    }
}

/// Starts a campaign with limits that bind; its id. What it will do hangs on nothing that changes meanwhile.
fn import(app: &App, domain: &str, name: &str) -> String {
    let leads = ["ana", "bo", "cy", "di", "ed"].map(str::to_owned);
    let file = app.campaign(
        domain,
        leads,
        2,
        "timezone = \"Europe/Madrid\"\nsend_time_start = \"09:00\"\nsend_time_end = \"17:00\"",
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("\"Welcome\"", &format!("\"{name}\""))
        .replace("from_name = ", "daily_limit = 3\nmin_gap_seconds = 600\nfrom_name = ");
    std::fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    let (exit, made) = app.json(&["campaign", "import", path]);
    assert_eq!(exit, 0, "{made}");
    let id = made["campaignId"].as_str().unwrap().to_owned();
    // The product tells the time: a test has no clock. By night, so that the window's opening gives the first slot: the turns
    // of a forecast are counted from its own begin.
    let first = app.json(&["campaign", "calendar", &id, "--limit", "1"]).1["slots"][0]["at"].clone();
    let day = &first.as_str().unwrap()[..10];
    let start = format!("{day}T00:00:00Z").parse::<Timestamp>().unwrap() + SignedDuration::from_hours(48);
    app.change(&format!("UPDATE campaigns SET scheduled_at = {} WHERE name = '{name}'", literal(app, start)));
    assert_eq!(app.json(&["campaign", "resume", &id]).0, 0);
    id
}

fn literal(app: &App, at: Timestamp) -> String {
    if app.database_url().is_some() { format!("'{at}'") } else { at.as_microsecond().to_string() }
}

fn create(app: &App, name: &str, tenant: &str) -> String {
    let (exit, made) = app.json(&["api-key", "create", "--name", name, "--tenant", tenant]);
    assert_eq!(exit, 0, "{made}");
    made["key"].as_str().unwrap().to_owned()
}

/// Every question about a campaign.
fn questions(campaign: &str) -> [String; 4] {
    ["", "/forecast", "/calendar", "/explain?lead=ana@one.example"]
        .map(|question| format!("/api/v1/campaigns/{campaign}{question}"))
}

/// All of an answer but its time.
fn whole(answer: &Answer) -> (u16, String, String) {
    let head = answer.head.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n");
    (answer.status, head, answer.body.clone())
}

fn it_says_what_the_commands_say(engine: Engine) {
    let Some((scene, _server)) = Scene::new(engine) else { return };
    let (app, id) = (&scene.app, scene.campaign_id.as_str());
    for named in [id, "Fr%C3%BChling%20%2F%201"] {
        let of = |question: &str| scene.object(&format!("/api/v1/campaigns/{named}{question}"));
        let forecast = of("/forecast");
        are_the_same(&forecast, &app.json(&["campaign", "forecast", id]).1);
        assert_eq!(forecast["slots"].as_array().unwrap().len(), 10, "{forecast}");
        assert!(forecast["finish"].is_string() && forecast["days"].as_array().unwrap().len() > 3, "{forecast}");
        assert_eq!(forecast["slots"][0]["account"], "ana@acme.test");
        assert!(!forecast["limits"].as_array().unwrap().is_empty(), "limits bind: {forecast}");
        assert_eq!(of("/calendar"), app.json(&["campaign", "calendar", id]).1);
        let three = of("/calendar?limit=3");
        assert_eq!(three, app.json(&["campaign", "calendar", id, "--limit", "3"]).1);
        assert_eq!(three["slots"].as_array().unwrap().len(), 3);
        for lead in ["ana@one.example", "ed@one.example"] {
            let explained = of(&format!("/explain?lead={lead}"));
            assert_eq!(explained, app.json(&["explain", lead, "--campaign", id]).1);
            assert!(explained["slot"]["at"].is_string() && explained["lead"] == lead, "{explained}");
        }
        assert_eq!(of(""), app.json(&["campaign", "status", id]).1);
    }
    let listed = scene.object("/api/v1/campaigns");
    let campaigns = listed["campaigns"].as_array().unwrap();
    assert_eq!(campaigns.len(), 1, "its own: {listed}");
    assert_eq!((campaigns[0]["campaignId"].as_str(), campaigns[0]["status"].as_str()), (Some(id), Some("scheduled")));
    assert_eq!((&campaigns[0]["name"], &listed["next"]), (&"Frühling / 1".into(), &Value::Null));
}

/// Shares are parts of waits that begin when a forecast does.
fn are_the_same(one: &Value, other: &Value) {
    let without_shares = |forecast: &Value| {
        let mut whole = forecast.clone();
        let limits = whole["limits"].as_array_mut().unwrap();
        let shares: Vec<f64> = limits.iter_mut().map(|limit| limit["share"].take().as_f64().unwrap()).collect();
        (whole, shares)
    };
    let ((one, ours), (other, theirs)) = (without_shares(one), without_shares(other));
    assert_eq!(one, other);
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() < 0.01), "{ours:?} {theirs:?}");
}

fn a_list_is_read_page_by_page(engine: Engine) {
    let Some((scene, _server)) = Scene::new(engine) else { return };
    for name in ["B", "C"] {
        import(&scene.app, "one.example", name);
    }
    let (mut path, mut names) = ("/api/v1/campaigns?limit=2".to_owned(), Vec::new());
    loop {
        let page = scene.object(&path);
        names.extend(page["campaigns"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(page["campaigns"].as_array().unwrap().len(), 2);
        path = format!("/api/v1/campaigns?limit=2&after={next}");
    }
    assert_eq!(names, ["Frühling / 1", "B", "C"]);
}

fn whoever_has_no_key_in_use_gets_one_answer(engine: Engine) {
    let Some((scene, server)) = Scene::new(engine) else { return };
    let key = scene.key.clone();
    let revoked = create(&scene.app, "old", "Acme one.example");
    let path = format!("/api/v1/campaigns/{}", scene.campaign_id);
    assert_eq!(scene.get(&path, &revoked).status, 200);
    assert_eq!(scene.app.json(&["api-key", "revoke", "old", "--tenant", "Acme one.example"]).0, 0);
    let last = if key.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &key[..key.len() - 1]);
    let unknown = format!("pm_{}{}", "0".repeat(12), &key[15..]);
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let heads = [
        String::new(),
        bearer(""),
        bearer("pm_"),
        bearer(&key[1..]),
        bearer(&key.to_uppercase()),
        bearer(&format!("{key}0")),
        bearer(&wrong),
        bearer(&unknown),
        bearer(&revoked),
        bearer("let-me-in"),
        format!("Authorization: Basic {key}\r\n"),
        format!("Authorization: {key}\r\n"),
        format!("{}{}", bearer(&key), bearer(&key)),
        format!("X-Api-Key: {key}\r\n"),
    ];
    let asked = questions(&scene.campaign_id).into_iter().chain(questions(NOBODY));
    let asked: Vec<String> = asked.chain(["/api/v1/campaigns".into(), "/api/v1/campaigns?limit=x".into()]).collect();
    let mut answers: Vec<_> = Vec::new();
    for path in &asked {
        answers.extend(heads.iter().map(|head| whole(&ask(&scene.address, "GET", path, head))));
    }
    let (status, head, body) = &answers[0];
    assert!(*status == 401 && head.contains("www-authenticate: Bearer") && head.contains("cache-control: no-store"));
    assert!(body.starts_with("{\"error\":"), "{body}");
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer, &answers[0], "{} with {}", asked[n / heads.len()], heads[n % heads.len()]);
    }
    assert_eq!(scene.get(&path, &key).status, 200, "the other key is as good as before");
    let (exit, log) = server.stop();
    assert!(exit.success());
    let log = log.concat();
    for key in [key, revoked, wrong, unknown] {
        assert!(!log.contains(&key[16..]), "the log holds a key");
    }
}

fn a_foreign_campaign_is_one_that_is_not_there(engine: Engine) {
    let Some((scene, _server)) = Scene::new(engine) else { return };
    let stranger = create(&scene.app, "grafana", "Acme two.example");
    let of_nobody = whole(&scene.get(&format!("/api/v1/campaigns/{NOBODY}"), &stranger));
    assert_eq!((of_nobody.0, of_nobody.2.as_str()), (404, "{\"error\":\"no such campaign\"}"));
    for name in [scene.campaign_id.as_str(), "Fr%C3%BChling%20%2F%201", NOBODY, "x", "%00", "a%00b", "%ff", "%20", "'"]
    {
        for path in questions(name) {
            assert_eq!(whole(&scene.get(&path, &stranger)), of_nobody, "{path}");
        }
    }
    let lead = |lead: &str, key: &str| {
        let (campaign, key) = if key == stranger { ("Welcome", key) } else { (scene.campaign_id.as_str(), key) };
        let answer = scene.get(&format!("/api/v1/campaigns/{campaign}/explain?lead={lead}"), key);
        (answer.status, answer.body)
    };
    assert_eq!(lead("ana@one.example", &scene.key).0, 200);
    let nobody = lead("nobody@one.example", &scene.key);
    assert_eq!((nobody.0, nobody.1.as_str()), (404, "{\"error\":\"no such lead\"}"));
    assert_eq!(lead("ana@one.example", &stranger), nobody, "the other's lead");
    assert_eq!(lead("ana@two.example", &scene.key), nobody);
}

fn each_mistake_of_a_query_names_its_field(engine: Engine) {
    let Some((scene, _server)) = Scene::new(engine) else { return };
    let id = &scene.campaign_id;
    for (path, field) in [
        ("/api/v1/campaigns?limit=0".to_owned(), "limit"),
        ("/api/v1/campaigns?limit=1001".into(), "limit"),
        ("/api/v1/campaigns?after=7".into(), "after"),
        ("/api/v1/campaigns?limit=1&limit=2".into(), "limit"),
        ("/api/v1/campaigns?offset=3".into(), "offset"),
        (format!("/api/v1/campaigns/{id}?x=1"), "x"),
        (format!("/api/v1/campaigns/{id}/forecast?limit=5"), "limit"),
        (format!("/api/v1/campaigns/{id}/calendar?limit=many"), "limit"),
        (format!("/api/v1/campaigns/{id}/explain"), "lead"),
        (format!("/api/v1/campaigns/{id}/explain?lead="), "lead"),
        (format!("/api/v1/campaigns/{id}/explain?lead=%00"), "lead"),
    ] {
        let answer = scene.get(&path, &scene.key);
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    for path in questions(id) {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let head = format!("Authorization: Bearer {}\r\n", scene.key);
            let answer = ask(&scene.address, method, &path, &head);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method} {path}");
        }
    }
    assert_eq!(scene.get("/api/v1/leads", &scene.key).status, 404);
}

/// One forecast of a tenant is held while another is asked for.
fn a_tenant_has_one_forecast_at_a_time(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let hold = dir.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let env = [("FAULT_POINT", "foreseeing"), ("FAULT_POINT_HOLD", hold.to_str().unwrap())];
    let Some((scene, mut server)) = Scene::with(engine, &env) else { return };
    let stranger = create(&scene.app, "grafana", "Acme two.example");
    let [status, forecast, calendar, explain] = questions(&scene.campaign_id);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| scene.get(&forecast, &scene.key));
        assert!(server.wait_for("fault point reached: foreseeing", 1), "{}", server.seen.concat());
        for path in [&forecast, &calendar, &explain] {
            let busy = scene.get(path, &scene.key);
            assert_eq!((busy.status, busy.header("retry-after")), (429, Some("5")), "{path}: {busy:?}");
        }
        assert_eq!(scene.get(&status, &scene.key).status, 200, "what is light is answered");
        assert_eq!(scene.get("/api/v1/campaigns/Welcome/forecast", &stranger).status, 200, "others have their own");
        std::fs::remove_file(&hold).unwrap();
        assert_eq!(held.join().unwrap().status, 200);
    });
    assert_eq!(scene.get(&forecast, &scene.key).status, 200, "its turn is over");
}

fn keys_are_made_listed_and_revoked(engine: Engine) {
    let Some((scene, _server)) = Scene::new(engine) else { return };
    let app = &scene.app;
    let list = || app.json(&["api-key", "list", "--tenant", "Acme one.example"]).1["keys"].clone();
    assert_eq!((list()[0]["name"].as_str(), &list()[0]["lastUsedAt"]), (Some("grafana"), &Value::Null));
    scene.object("/api/v1/campaigns");
    let used = list()[0]["lastUsedAt"].clone();
    assert!(used.is_string());
    scene.object("/api/v1/campaigns");
    assert_eq!(list()[0]["lastUsedAt"], used, "to the hour");
    assert!(scene.key.starts_with(list()[0]["prefix"].as_str().unwrap()));

    for (arguments, says) in [
        (&["api-key", "create", "--name", "x"][..], "more than one tenant"),
        (&["api-key", "list"], "Acme two.example"),
        (&["api-key", "create", "--name", "grafana", "--tenant", "Acme one.example"], "in use"),
        (&["api-key", "create", "--name", " ", "--tenant", "Acme one.example"], "--name"),
        (&["api-key", "create", "--name", "pm_0123456789ab", "--tenant", "Acme one.example"], "--name"),
        (&["api-key", "create", "--name", "x", "--tenant", "Nobody"], "there is no tenant"),
        (&["api-key", "revoke", "x", "--tenant", "Acme one.example"], "no such key in use"),
    ] {
        let (exit, object) = app.json(arguments);
        assert!(exit == 2 && object["error"].to_string().contains(says), "{arguments:?}: {object}");
    }
    // A key that leaked is revoked as it was found, and is not said again.
    let revoke = ["api-key", "revoke", scene.key.as_str(), "--tenant", "Acme one.example"];
    let foreign = ["api-key", "revoke", scene.key.as_str(), "--tenant", "Acme two.example"];
    let (exit, refused) = app.json(&foreign);
    assert!(exit == 2 && !refused.to_string().contains(&scene.key[16..]), "{refused}");
    let (exit, revoked) = app.json(&revoke);
    assert!(exit == 0 && revoked["revokedAt"].is_string() && !revoked.to_string().contains(&scene.key[16..]));
    assert_eq!(scene.get("/api/v1/campaigns", &scene.key).status, 401, "at once");
    assert_eq!(app.json(&revoke).0, 2, "once");
    let again = create(app, "grafana", "Acme one.example");
    assert_eq!(scene.get("/api/v1/campaigns", &again).status, 200, "its name is free");
    assert_eq!(list().as_array().unwrap().len(), 2);
    let plain = app.output(&["api-key", "create", "--name", "plain", "--tenant", "Acme one.example"]);
    let key = String::from_utf8(plain.stdout).unwrap();
    assert_eq!(scene.get("/api/v1/campaigns", key.trim()).status, 200, "stdout is the key alone");
    assert!(!String::from_utf8(plain.stderr).unwrap().contains(&key.trim()[16..]));
}

#[test]
fn a_database_that_is_away_is_said() {
    let Some(mut app) = App::on_own_postgres(Engine::Postgres) else { return };
    import(&app, "one.example", "Welcome");
    let mut server = app.spawn(&["serve", "--only", "api"]);
    let address = server.value_after("cron API listens address=");
    let head = format!("Authorization: Bearer {}\r\n", create(&app, "grafana", "Acme one.example"));
    assert_eq!(ask(&address, "GET", "/api/v1/campaigns", &head).status, 200);
    app.postgres().kill();
    let answer = ask(&address, "GET", "/api/v1/campaigns", &head);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
}

crate::on_every_database! {
    it_says_what_the_commands_say
    a_list_is_read_page_by_page
    whoever_has_no_key_in_use_gets_one_answer
    a_foreign_campaign_is_one_that_is_not_there
    each_mistake_of_a_query_names_its_field
    a_tenant_has_one_forecast_at_a_time
    keys_are_made_listed_and_revoked
}

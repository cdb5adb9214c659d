//! A result, or the intent to write a dot, that the ledger does not take for a reason of its own, here a trigger of another
//! program: its send neither stays in `dot` nor goes again, and takes no other along.

use crate::app::{App, Engine};
use crate::http::wait_long;
use crate::scene::{End, ONCE, Scene};

/// From now on no send may get one of these statuses.
fn refuse(app: &App, statuses: &str) {
    if app.database_url().is_some() {
        app.change(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'not in this house'; END $$;
                CREATE TRIGGER refuse BEFORE UPDATE ON sends FOR EACH ROW WHEN (NEW.status IN ({statuses}))
                    EXECUTE FUNCTION refuse()"
        ));
    } else {
        app.change(&format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON sends WHEN NEW.status IN ({statuses})
                    BEGIN SELECT RAISE(ABORT, 'not in this house'); END"
        ));
    }
}

fn allow(app: &App) {
    let on = if app.database_url().is_some() { " ON sends" } else { "" };
    app.change(&format!("DROP TRIGGER refuse{on}"));
}

fn planned(engine: Engine) -> Option<Scene> {
    let scene = Scene::new(engine, "")?;
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
    Some(scene)
}

fn a_result_that_is_refused_holds_its_send_for_a_person(engine: Engine) {
    let Some(scene) = planned(engine) else { return };
    refuse(&scene.app, "'sent'");
    let worker = scene.next_worker();
    assert_eq!(scene.settled(), End { copies: 1, sent: 0, held: 1, unknown: 0 });
    let send = &scene.app.json(&["campaign", "failures", "Welcome"]).1["failures"][0];
    assert_eq!(send["reason"], "result_refused");
    allow(&scene.app);
    let id = send["sendId"].as_str().unwrap();
    assert_eq!(scene.app.json(&["send", "resolve", id, "--sent"]).0, 0);
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

/// From now on no send of `Welcome` may become a dot.
fn refuse_its_dot(app: &App) {
    let its = "SELECT 1 FROM campaigns c WHERE c.id = NEW.campaign_id AND c.name = 'Welcome'";
    if app.database_url().is_some() {
        app.change(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN IF EXISTS ({its}) THEN RAISE EXCEPTION 'not in this house'; END IF; RETURN NEW; END $$;
                CREATE TRIGGER refuse BEFORE UPDATE ON sends FOR EACH ROW WHEN (NEW.status = 'dot') EXECUTE FUNCTION refuse()"
        ));
    } else {
        app.change(&format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON sends WHEN NEW.status = 'dot'
                    BEGIN SELECT RAISE(ABORT, 'not in this house') WHERE EXISTS ({its}); END"
        ));
    }
}

/// The database takes every dot but one: that one is held with its reason, and the others go.
fn an_intent_that_is_refused_takes_no_other_along_and_holds_its_send(engine: Engine) {
    let Some(scene) = Scene::new(engine, "") else { return };
    for (name, lead) in [("Second", "ben"), ("Third", "cid")] {
        scene.import(name, lead, "");
    }
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 3);
    refuse_its_dot(&scene.app);
    let worker = scene.next_worker();
    wait_long(|| (scene.sink.accepted().len() == 2).then_some(()));
    assert_eq!(scene.settled(), End { copies: 2, sent: 0, held: 1, unknown: 0 });
    let send = &scene.app.json(&["campaign", "failures", "Welcome"]).1["failures"][0];
    assert_eq!(send["reason"], "intent_refused");
    allow(&scene.app);
    assert_eq!(scene.app.json(&["send", "resolve", send["sendId"].as_str().unwrap(), "--resend"]).0, 0);
    assert_eq!(scene.settled(), End { copies: 3, sent: 1, held: 0, unknown: 0 });
    assert!(worker.stop().0.success());
}

fn a_result_that_is_taken_in_no_form_is_tried_until_it_is(engine: Engine) {
    let Some(scene) = planned(engine) else { return };
    refuse(&scene.app, "'sent', 'held'");
    let mut worker = scene.app.spawn(&["worker"]);
    assert!(worker.wait_for("results are kept: the database takes them in no form", 2), "{}", worker.seen.join(""));
    assert_eq!(scene.app.count_rows("sends WHERE status = 'dot'"), 1);
    allow(&scene.app);
    let worker = worker.read_on();
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

/// Its owner is dead for longer than it takes to bury one, and its dot must not become unknown.
#[test]
fn a_dead_workers_result_that_is_taken_in_no_form_waits_in_its_journal() {
    let Some(scene) = planned(Engine::Postgres) else { return };
    refuse(&scene.app, "'sent', 'held'");
    let mut dead = scene.app.spawn(&["worker"]);
    assert!(dead.wait_for("results are kept: the database takes them in no form", 1), "{}", dead.seen.join(""));
    dead.kill();
    let mut worker = scene.app.spawn(&["worker"]);
    assert!(worker.wait_for("the journal of a dead worker", 2), "{}", worker.seen.join(""));
    assert!(worker.seen.last().unwrap().contains("stays"), "its dot went again: {}", worker.seen.join(""));
    assert_eq!(scene.app.count_rows("sends WHERE status = 'dot' AND unknowns = 0"), 1, "it was buried");
    allow(&scene.app);
    assert!(worker.wait_for("the journal of a dead worker was written down", 1), "{}", worker.seen.join(""));
    let worker = worker.read_on();
    assert_eq!(scene.settled(), ONCE);
    assert!(worker.stop().0.success());
}

/// One of its two sends has a result that is refused, the other's dot nobody knows anything of.
#[test]
fn a_dead_workers_other_dot_does_not_wait_for_a_refused_result() {
    let Some(scene) = Scene::new(Engine::Postgres, "") else { return };
    scene.import("Another", "ben", "");
    assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 2);
    refuse(&scene.app, "'sent', 'held'");
    let mut dead = scene.held_at("worker", "answered");
    assert!(dead.wait_for("results are kept: the database takes them in no form", 1), "{}", dead.seen.join(""));
    dead.kill();
    let mut worker = scene.app.spawn(&["worker"]);
    assert!(worker.wait_for("its open dots are unknown", 1), "{}", worker.seen.join(""));
    assert!(worker.seen.last().unwrap().contains("unknown=1"), "{}", worker.seen.join(""));
    assert!(worker.wait_for("results are kept: the database takes them in no form", 1), "{}", worker.seen.join(""));
    allow(&scene.app);
    let worker = worker.read_on();
    wait_long(|| (scene.app.count_rows("sends WHERE status = 'sent'") == 2).then_some(()));
    let unknown = scene.app.count_rows("sends WHERE unknowns = 1");
    assert_eq!((unknown, scene.sink.accepted().len()), (1, 3), "the other went again, and it alone");
    assert!(worker.stop().0.success());
}

crate::on_every_engine! {
    an_intent_that_is_refused_takes_no_other_along_and_holds_its_send
    a_result_that_is_refused_holds_its_send_for_a_person
    a_result_that_is_taken_in_no_form_is_tried_until_it_is
}

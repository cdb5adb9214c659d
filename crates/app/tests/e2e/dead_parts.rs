//! A part of a worker that ends by a fault of ours, while its process could live on by half: it ends, and says so.

use crate::app::Engine;
use crate::scene::{ONCE, Scene, side_by_side};

/// The gate's task, the journal's before and after it has a result, the one that writes results, and that of the heartbeats.
fn a_worker_that_lost_a_part_ends_with_an_error_and_the_next_one_goes_on(engine: Engine) {
    let points = ["intending", "journaling", "journaled", "applied", "beating"].map(|point| (point, ()));
    side_by_side(&points, |point, ()| {
        let Some(scene) = Scene::new(engine, "") else { return };
        assert_eq!(scene.app.json(&["scheduler", "--once"]).1["planned"], 1);
        let worker = scene.app.spawn_with(&["worker"], &[("FAULT_POINT", point), ("FAULT_POINT_PANIC", "1")]);
        // Nobody asks it to.
        let (exit, log) = worker.ended();
        assert!(
            log.iter().any(|line| line.contains("a panic was asked for")),
            "the fault did not fire: {}",
            log.join("")
        );
        let told = log.iter().any(|line| line.contains("a part of the worker has ended by a fault of ours"));
        assert_eq!((exit.code(), told), (Some(1), true), "{}", log.join(""));
        let worker = scene.next_worker();
        assert_eq!(scene.settled(), ONCE);
        assert!(worker.stop().0.success());
    });
}

crate::on_every_engine! { a_worker_that_lost_a_part_ends_with_an_error_and_the_next_one_goes_on }

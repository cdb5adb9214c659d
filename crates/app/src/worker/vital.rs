//! The tasks beside the leasing, none of which ends by itself: where one does, by a fault of ours, nothing may be leased any
//! more, and the process ends with an error instead of living on by half. The gate is shut in the moment of the panic.
//!
//! Not responsible for jobs, whose panics are their own failures (`deliver`). To add a task: `Vital::start`, in `worker::start`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;

use super::gate::{Shut, Why};

/// The tasks, each with the name that a person is told, and the gate that shuts when one ends.
#[derive(Default)]
pub(super) struct Vital {
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    gate: Shut,
}

/// Shuts the gate with the end of its task, however it ends.
struct ShutAtTheEnd(Shut);

impl Drop for ShutAtTheEnd {
    fn drop(&mut self) {
        self.0.set(Why::Vital, true);
    }
}

impl Vital {
    /// The gate that shuts when one of them ends.
    pub(super) fn gate(&self) -> Shut {
        self.gate.clone()
    }

    /// Starts one more.
    pub(super) fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let at_the_end = ShutAtTheEnd(self.gate());
        let task = async move {
            let _at_the_end = at_the_end;
            task.await;
        };
        self.tasks.push((name, tokio::spawn(task)));
    }

    /// Returns when one of them has ended, after which it must not be asked again.
    pub(super) async fn one_ends(&mut self) {
        poll_fn(|cx| {
            let has_ended = self.tasks.iter_mut().any(|(_, task)| Pin::new(task).poll(cx).is_ready());
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Those that have ended.
    pub(super) fn ended(&self) -> Vec<&'static str> {
        self.tasks.iter().filter(|(_, task)| task.is_finished()).map(|(name, _)| *name).collect()
    }

    /// Ends them.
    pub(super) fn end(self) {
        self.tasks.iter().for_each(|(_, task)| task.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_to_end_is_noticed_and_named() {
        let mut vital = Vital::default();
        vital.start("lives", std::future::pending());
        let (die, dies) = tokio::sync::oneshot::channel::<()>();
        vital.start("dies", async {
            dies.await.unwrap();
            panic!("as a fault of ours would");
        });
        assert!(!vital.gate().is_shut());
        die.send(()).unwrap();
        vital.one_ends().await;
        assert!(vital.gate().is_shut(), "before anybody asks");
        assert_eq!(vital.ended(), ["dies"]);
        vital.end();
    }
}

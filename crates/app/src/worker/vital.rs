//! The tasks beside the leasing, none of which ends by itself: where one does, by a fault of ours, nothing may be leased any
//! more, and the process ends with an error instead of living on by half.
//!
//! Not responsible for jobs, whose panics are their own failures (`deliver`). To add a task: `Vital::add`, in `worker::run`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;

/// The tasks, each with the name that a person is told.
#[derive(Default)]
pub(super) struct Vital(Vec<(&'static str, JoinHandle<()>)>);

impl Vital {
    /// Watches one more.
    pub(super) fn add(&mut self, name: &'static str, task: JoinHandle<()>) {
        self.0.push((name, task));
    }

    /// Returns when one of them has ended, after which it must not be asked again.
    pub(super) async fn one_ends(&mut self) {
        poll_fn(|cx| {
            let has_ended = self.0.iter_mut().any(|(_, task)| Pin::new(task).poll(cx).is_ready());
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Those that have ended.
    pub(super) fn ended(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, task)| task.is_finished()).map(|(name, _)| *name).collect()
    }

    /// Ends them.
    pub(super) fn end(self) {
        self.0.iter().for_each(|(_, task)| task.abort());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_to_end_is_noticed_and_named() {
        let mut vital = Vital::default();
        vital.add("lives", tokio::spawn(std::future::pending()));
        vital.add("dies", tokio::spawn(async { panic!("as a fault of ours would") }));
        vital.one_ends().await;
        assert_eq!(vital.ended(), ["dies"]);
        vital.end();
    }
}

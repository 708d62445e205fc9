//! Who waits until something stands on the medium.

use parking_lot::Mutex;
use pocket_proto::Failure;
use tokio::sync::oneshot;

/// Shared by everything that one answer waits for: it is given when the last holder lets go, or when
/// one of them fails.
pub(super) struct Ticket(Mutex<Option<oneshot::Sender<Result<(), Failure>>>>);

impl Ticket {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<(), Failure>>) {
        let (sender, receiver) = oneshot::channel();
        (Ticket(Mutex::new(Some(sender))), receiver)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.answer(Err(failure));
    }

    fn answer(&self, outcome: Result<(), Failure>) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever asked may have gone.
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answer(Ok(()));
    }
}

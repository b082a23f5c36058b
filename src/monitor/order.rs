//! What a monitor can be asked to do with its VM.

use tokio::sync::{mpsc, oneshot};

use crate::domain::{Problem, StopLadder};

/// A request.
#[derive(Debug)]
pub enum Order {
    /// Climb this ladder.
    Stop(StopLadder),
    /// Let the guest's CPUs stand still, or go on.
    Still {
        /// Whether they are to stand still.
        still: bool,
        /// What they stand still for, if no user asked.
        problem: Option<Problem>,
        /// Takes the answer.
        reply: oneshot::Sender<Result<(), Problem>>,
    },
}

/// Asks for a pause or a resumption, and waits until it is so.
///
/// # Errors
/// Why it is not, in the VMM's words or because the VM is on its way down.
pub async fn stand_still(
    orders: &mpsc::Sender<Order>,
    still: bool,
    problem: Option<Problem>,
) -> Result<(), Problem> {
    let what = if still { "cannot pause the VM" } else { "cannot resume the VM" };
    let gone = || Problem::new(what, "it is on its way down", "start it again when it is off");
    let (reply, answer) = oneshot::channel();
    orders.send(Order::Still { still, problem, reply }).await.map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

//! Looking at a running proxy from another thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::command::Command;
use super::{Board, Totals};
use crate::control::Control;
use crate::engine::{Counters, Engine};
use crate::overload::Overload;

/// How long a worker may take to answer; it answers between two turns.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sees what the workers do; cheap to clone, and harmless to keep after their end.
#[derive(Clone)]
pub struct Observer {
    pub(super) boards: Arc<[Arc<Board>]>,
    pub(super) control: Control,
    pub(super) overload: Arc<Overload>,
    pub(super) began: tokio::time::Instant,
}

impl Observer {
    /// The engines' clock: ms since the proxy started.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is scarce.
    pub fn overload(&self) -> &Overload {
        &self.overload
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.boards.len()
    }

    /// What all of them have done, as of each one's latest turn.
    pub fn totals(&self) -> Totals {
        totals(&self.boards)
    }

    /// What each of them has done.
    pub fn each(&self) -> Vec<Totals> {
        self.boards.iter().map(|board| totals(std::slice::from_ref(board))).collect()
    }

    /// Has every worker answer between two turns. Those that do not within a second, or
    /// that have ended, are left out; each answer comes with its worker's number.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Engine) -> T + Clone + Send + 'static,
    ) -> Vec<(usize, T)> {
        let mut asked = Vec::new();
        self.control.command_all(|at| {
            let (answer, answered) = oneshot::channel();
            let question = question.clone();
            asked.push((at, answered));
            Command::Ask(Box::new(move |engine| {
                // Whoever asked may have left.
                let _ = answer.send(question(engine));
            }))
        });
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        for (at, answered) in asked {
            if let Ok(Ok(answer)) = tokio::time::timeout_at(until, answered).await {
                answers.push((at, answer));
            }
        }
        answers
    }
}

/// Sums over boards.
pub(super) fn totals(boards: &[Arc<Board>]) -> Totals {
    let (mut sums, mut now) = ([0; Counters::COUNT], [0; 4]);
    for board in boards {
        let places = board.values.iter().chain(&board.now);
        for (sum, place) in sums.iter_mut().chain(&mut now).zip(places) {
            *sum += place.load(Ordering::Relaxed);
        }
    }
    let (counters, [downstreams, upstreams, in_flight, pending]) =
        (Counters::from_values(sums), now);
    Totals { counters, downstreams, upstreams, in_flight, pending }
}

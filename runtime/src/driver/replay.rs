//! Makes a medium what it was: the recorded code runs again, with the recorded seed, clock and gate results. No gate and
//! no model is called (LOOM-13).

use std::time::Duration;

use cantrip_gates::GateError;

use crate::domain::limits::REPLAY_MS_MAX;
use crate::domain::loom::Replay;
use crate::domain::medium::{Evaluation, GateAnswer, StopFlag};
use crate::ports::{Medium, Yielded};

/// Runs one evaluation again. What the code prints was observed before and is dropped.
pub(super) async fn run(medium: &mut dyn Medium, replay: Replay, fuel_max: Option<u64>, stop: StopFlag) {
    let Replay { source, record, answers } = replay;
    let evaluation = Evaluation {
        source,
        seed: record.seed,
        clock_us: record.clock_us,
        time_max: Duration::from_millis(REPLAY_MS_MAX),
        output_bytes_max: 0,
        fuel_max,
        stop_at_poll: record.stopped_at_poll,
        recorded: u64::MAX,
        stop,
    };
    let mut clocks = record.gate_clocks_us.into_iter();
    let mut clock_us = record.clock_us;
    let mut answers = answers.into_iter();
    let mut yielded = medium.evaluate(evaluation).await;
    let mut is_stopped = false;
    while let Yielded::Gate { gate, .. } = yielded {
        clock_us = clocks.next().unwrap_or(clock_us);
        let answer = answers.next().unwrap_or_else(|| {
            let why = || GateError::Failed(format!("{gate}: the record of this evaluation ends here"));
            if is_stopped { GateAnswer::Stop } else { GateAnswer::Returned(Err(why())) }
        });
        is_stopped = matches!(answer, GateAnswer::Stop);
        yielded = medium.resume(answer, clock_us).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CallId;
    use crate::domain::loom::EvaluationRecord;
    use crate::domain::medium::{Evaluated, EvaluationOutcome, StopReason};
    use crate::ports::BoxFuture;

    /// Code that computes until its time is over.
    #[derive(Debug, Default)]
    struct Endless(Duration);

    impl Medium for Endless {
        fn evaluate(&mut self, evaluation: Evaluation) -> BoxFuture<'_, Yielded> {
            self.0 += evaluation.time_max;
            let ended = Evaluated::of(EvaluationOutcome::Stopped(StopReason::Time));
            Box::pin(async { Yielded::Finished(Box::new(ended)) })
        }

        fn resume(&mut self, _: GateAnswer, _: u64) -> BoxFuture<'_, Yielded> {
            unreachable!("it asks for nothing")
        }
    }

    #[tokio::test]
    async fn code_that_is_run_again_ends_after_ten_minutes() {
        let record = EvaluationRecord {
            call: CallId::new("c"),
            seed: 0,
            clock_us: 0,
            gate_clocks_us: Vec::new(),
            stopped_at_poll: None,
            lost: false,
            fuel: None,
        };
        let replay = Replay { source: "while (true) {}".to_owned(), record, answers: Vec::new() };
        let mut medium = Endless::default();
        run(&mut medium, replay, None, StopFlag::default()).await;
        assert_eq!(medium.0, Duration::from_mins(10));
    }
}

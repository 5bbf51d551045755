//! One question to the model, retries included: however often it is asked, it is one turn (PROD-2).

use std::sync::Arc;
use std::time::Duration;

use crate::domain::entity::Input;
use crate::domain::event::EventKind;
use crate::domain::limits::MODEL_REMINDERS_MAX;
use crate::domain::model::{Message, Question, RawAnswer, ToolChoice, Usage};
use crate::ports::Pieces;

use super::actor::Actor;

struct Teller<'a>(&'a Actor);

impl Pieces for Teller<'_> {
    fn text(&self, piece: &str) {
        self.0.tell(EventKind::Text { text: piece.to_owned() });
    }

    fn thinking(&self, piece: &str) {
        self.0.tell(EventKind::Thinking { text: piece.to_owned() });
    }
}

impl Actor {
    pub(super) async fn ask(&self, mut question: Question) -> Input {
        self.tell(EventKind::MessageStarted);
        let (mut retries, mut reminders, mut usage) = (0, 0, Usage::default());
        loop {
            let pieces = Teller(self);
            let answer = tokio::select! {
                biased;
                () = self.stopped() => return Input::Abandoned,
                answer = self.llm.ask(&question, &pieces) => answer,
            };
            match answer {
                Ok(answer) if self.has_to_be_reminded(&question, &answer, reminders) => {
                    reminders += 1;
                    usage += answer.usage;
                    let content = answer.content;
                    let said = Message::Assistant { content, thinking: None, calls: Vec::new() };
                    question.messages.push(Arc::new(said));
                    question.messages.push(Arc::new(Message::User(reminder(&question))));
                }
                Ok(answer) => {
                    return Input::Answered { answer: RawAnswer { usage: answer.usage + usage, ..answer }, retries };
                }
                Err(error) => {
                    let Some(wait) = self.cantrip.retry().delay(retries, &error) else {
                        return Input::Unanswered(error);
                    };
                    retries += 1;
                    self.tell(EventKind::Retry {
                        attempt: retries + 1,
                        wait_ms: millis(wait),
                        reason: cantrip_gates::redact(&error.to_string()).into_owned(),
                    });
                    tokio::select! {
                        biased;
                        () = self.stopped() => return Input::Abandoned,
                        () = self.host.clock.sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn has_to_be_reminded(&self, question: &Question, answer: &RawAnswer, reminders: u32) -> bool {
        question.tool_choice == ToolChoice::Required
            && answer.calls.is_empty()
            && answer.content.is_some()
            && reminders < MODEL_REMINDERS_MAX
            && !self.llm.can_require_calls()
    }
}

fn reminder(question: &Question) -> String {
    let names: Vec<&str> = question.tools.iter().map(|tool| tool.name.as_str()).collect();
    format!("Answer with a call of {}, not with text.", names.join(" or "))
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

//! Questions put to clients on their telemetry streams whose answers somebody waits for. A question is named by its
//! nonce; only the client that was asked can answer it, once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::{Code, TelemetryCommand};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Session;
use crate::limits::{QUESTION_MS_MAX, QUESTIONS_MAX};
use crate::status::{self, Failure};

const LOCK: &str = "nothing panics while it holds the questions";

/// All that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: Mutex<HashMap<String, Waiting>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    client_id: String,
    answer: oneshot::Sender<TelemetryCommand>,
}

/// Takes a question back when its asker goes away.
struct Asked<'a> {
    questions: &'a Questions,
    nonce: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().expect(LOCK).remove(&self.nonce);
    }
}

impl Questions {
    /// Sends a command with a fresh nonce to a client and waits for its answer.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when as many questions wait as may, NOT_FOUND when the client has no stream with room,
    /// PROXY_TIMEOUT when no answer comes within [`QUESTION_MS_MAX`] (protocol section 3.2).
    pub(crate) async fn ask(
        &self,
        session: &Session,
        command: impl FnOnce(String) -> Command,
    ) -> Result<TelemetryCommand, Failure> {
        let nonce = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().expect(LOCK);
            if waiting.len() >= QUESTIONS_MAX {
                let text = format!("{QUESTIONS_MAX} questions wait for their clients already");
                return Err(Failure::new(Code::TooManyRequests, text));
            }
            let client_id = session.client_id.to_string();
            waiting.insert(nonce.clone(), Waiting { client_id, answer: sender });
        }
        let asked = Asked { questions: self, nonce: nonce.clone() };
        let element =
            TelemetryCommand { status: Some(status::ok()), command: Some(command(nonce)) };
        if !session.send(element) {
            let text = format!("client {} has no open telemetry stream", session.client_id);
            return Err(Failure::new(Code::NotFound, text));
        }
        let answered = timeout(Duration::from_millis(QUESTION_MS_MAX), answer).await;
        drop(asked);
        answered.ok().and_then(Result::ok).ok_or_else(|| {
            let client_id = &session.client_id;
            let text = format!("client {client_id} did not answer within {QUESTION_MS_MAX} ms");
            Failure::new(Code::ProxyTimeout, text)
        })
    }

    /// Hands what a client said to whoever waits for it; anything else is dropped.
    pub(crate) fn answer(&self, client_id: &str, element: TelemetryCommand) {
        let Some(nonce) = nonce(&element) else { return };
        let mut waiting = self.waiting.lock().expect(LOCK);
        if waiting.get(nonce).is_some_and(|question| question.client_id == client_id)
            && let Some(question) = waiting.remove(nonce)
        {
            // Nobody to tell is fine: the asker went away.
            let _gone = question.answer.send(element);
        }
    }
}

/// The question that an element answers.
fn nonce(element: &TelemetryCommand) -> Option<&str> {
    match element.command.as_ref()? {
        Command::ThreadStackTrace(trace) => Some(&trace.nonce),
        Command::VerifyMessageResult(result) => Some(&result.nonce),
        // Node answers with the command itself.
        Command::VerifyMessageCommand(command) => Some(&command.nonce),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::rocketmq::{PrintThreadStackTraceCommand, ThreadStackTrace};
    use tokio::sync::mpsc;

    use super::*;
    use crate::session::Sessions;

    fn question(nonce: String) -> Command {
        Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce })
    }

    fn answer(nonce: &str, text: &str) -> TelemetryCommand {
        let trace =
            ThreadStackTrace { nonce: nonce.to_owned(), thread_stack_trace: Some(text.to_owned()) };
        TelemetryCommand { status: None, command: Some(Command::ThreadStackTrace(trace)) }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_client_that_was_asked_can_answer_and_silence_is_told() {
        let (questions, sessions) = (Questions::default(), Sessions::default());
        let session = sessions.touch("a", None, 0).unwrap();
        let refused = questions.ask(&session, question).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "no stream yet");
        let (sender, mut stream) = mpsc::channel(1);
        session.attach(sender);
        let client = async {
            let asked = stream.recv().await.unwrap().unwrap();
            let Some(Command::PrintThreadStackTraceCommand(asked)) = asked.command else {
                panic!("another question: {asked:?}")
            };
            questions.answer("b", answer(&asked.nonce, "from b"));
            questions.answer("a", answer("unknown", "to nothing"));
            questions.answer("a", answer(&asked.nonce, "from a"));
        };
        let (answered, ()) = tokio::join!(questions.ask(&session, question), client);
        assert_eq!(answered.unwrap(), answer("1", "from a"));
        let refused = questions.ask(&session, question).await.unwrap_err();
        assert_eq!(refused.code, Code::ProxyTimeout);
        assert!(questions.waiting.lock().unwrap().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn waiting_questions_are_limited() {
        let (questions, sessions) = (Questions::default(), Sessions::default());
        let session = sessions.touch("a", None, 0).unwrap();
        for number in 0..QUESTIONS_MAX {
            let (answer, _) = oneshot::channel();
            let waiting = Waiting { client_id: "a".into(), answer };
            questions.waiting.lock().unwrap().insert(format!("x{number}"), waiting);
        }
        let refused = questions.ask(&session, question).await.unwrap_err();
        assert_eq!(refused.code, Code::TooManyRequests);
    }
}

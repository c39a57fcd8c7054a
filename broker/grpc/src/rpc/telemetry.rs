//! Telemetry: the stream between a client and this broker (protocol section 3.2). Every settings element is answered;
//! the end of the stream is not the end of the client.

use std::sync::Arc;

use broker_proto::rocketmq::{Settings, TelemetryCommand, telemetry_command::Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::broadcasting;
use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::limits::TELEMETRY_COMMANDS_MAX;
use crate::session::{Session, TelemetrySender, settings};
use crate::status::{self, Failure};

/// What goes to the client.
pub(crate) type TelemetryStream = ReceiverStream<Result<TelemetryCommand, Status>>;

/// Returns at once, so that the response headers go out before the first element is read: one client waits for them.
pub(crate) fn telemetry(
    context: &Arc<BrokerContext>,
    request: Request<Streaming<TelemetryCommand>>,
) -> TelemetryStream {
    let (sender, receiver) = mpsc::channel(TELEMETRY_COMMANDS_MAX);
    let (metadata, extensions, inbound) = request.into_parts();
    match Caller::of(&metadata, &extensions) {
        Ok(caller) => {
            let link = Link {
                context: Arc::clone(context),
                client_id: caller.client_id.to_owned(),
                remote: caller.remote,
                sender,
                session: None,
            };
            tokio::spawn(link.serve(inbound));
        }
        Err(failure) => {
            // One element with only a status, then the end; a fresh channel has room for it.
            let command = TelemetryCommand { status: Some(failure.into_status()), command: None };
            let _sent = sender.try_send(Ok(command));
        }
    }
    ReceiverStream::new(receiver)
}

/// One open stream.
struct Link {
    context: Arc<BrokerContext>,
    client_id: String,
    remote: Option<std::net::SocketAddr>,
    sender: TelemetrySender,
    session: Option<Arc<Session>>,
}

impl Link {
    async fn serve(mut self, mut inbound: Streaming<TelemetryCommand>) {
        let context = Arc::clone(&self.context);
        let stopped = context.stopped();
        tokio::pin!(stopped);
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                () = self.sender.closed() => break,
                () = &mut stopped => break,
            };
            let element = match message {
                Ok(Some(element)) => element,
                // A broken stream is the client's way to leave; it comes back by itself. An element that breaks a limit is
                // answered, and nobody hears it if the client left.
                Err(status) => {
                    let _gone = self.sender.try_send(Err(status));
                    break;
                }
                Ok(None) => break,
            };
            if let Err(failure) = self.element(element).await {
                let _gone = self.sender.send(Err(stream_error(&failure))).await;
                break;
            }
        }
        if let Some(session) = &self.session {
            session.detach(&self.sender);
        }
    }

    async fn element(&mut self, element: TelemetryCommand) -> Result<(), Failure> {
        match element.command {
            Some(Command::Settings(sent)) => self.settings(sent).await,
            // An answer to a question, or nothing that is known here.
            _ => {
                self.context.questions.answer(&self.client_id, element);
                Ok(())
            }
        }
    }

    async fn settings(&mut self, sent: Settings) -> Result<(), Failure> {
        settings::check(&sent)?;
        let session = self.context.sessions.touch(&self.client_id, self.remote, monotonic_ms())?;
        let sent = Arc::new(sent);
        let share = self.context.sessions.share(settings::held_bytes(&sent))?;
        session.put_settings(Arc::clone(&sent), share);
        session.attach(self.sender.clone());
        self.session = Some(session);
        broadcasting::join(&self.context, &self.client_id, &sent).await?;
        // A client that does not read its stream blocks only itself.
        let _gone = self.sender.send(Ok(settings_command(&self.context, &sent))).await;
        Ok(())
    }
}

/// The answer to settings, also sent unasked when the group changes.
pub(crate) fn settings_command(context: &BrokerContext, sent: &Settings) -> TelemetryCommand {
    let group = settings::group(sent).and_then(|name| context.catalog.group(name.as_str()));
    let answer = settings::answer(sent, group.as_ref().map(|entry| &entry.group));
    TelemetryCommand { status: Some(status::ok()), command: Some(Command::Settings(answer)) }
}

/// The codes of the client's faults end the stream as INVALID_ARGUMENT, all others as INTERNAL.
fn stream_error(failure: &Failure) -> Status {
    let text = failure.message.clone().into_owned();
    match failure.code as i32 {
        42_900 => Status::resource_exhausted(text),
        40_000..=49_999 => Status::invalid_argument(text),
        _ => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::rocketmq::Code;

    use super::*;

    #[test]
    fn illegal_settings_end_the_stream_as_the_clients_fault() {
        let of = |code| stream_error(&Failure::new(code, "x")).code();
        assert_eq!(of(Code::IllegalConsumerGroup), tonic::Code::InvalidArgument);
        assert_eq!(of(Code::BadRequest), tonic::Code::InvalidArgument);
        assert_eq!(of(Code::TooManyRequests), tonic::Code::ResourceExhausted);
        assert_eq!(of(Code::InternalServerError), tonic::Code::Internal);
    }
}

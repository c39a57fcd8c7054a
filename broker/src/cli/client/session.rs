//! The tie to one broker endpoint: channel, telemetry stream with its Settings handshake, and heartbeats.
//! A task keeps the tie: it answers the server's commands, repeats the settings, and opens the stream again when it breaks.

use std::time::Duration;

use broker_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::{
    Code, Endpoints, HeartbeatRequest, Language, NotifyClientTerminationRequest, Publishing,
    Resource, Settings, Status, Subscription, SubscriptionEntry, TelemetryCommand,
    ThreadStackTrace, Ua, VerifyMessageResult, settings,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::identity::{Identity, host_name};
use super::{REQUEST_TIMEOUT, Role, ok, proto_duration, resource};
use crate::cli::failure::{Failure, innermost};

/// The generated client with our headers on every call.
pub(super) type Service = MessagingServiceClient<InterceptedService<Channel, Identity>>;

const ANSWER_BYTES_MAX: usize = 140 * 1024 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(6);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
const SETTINGS_INTERVAL: Duration = Duration::from_secs(300);
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
const COMMANDS_QUEUED_MAX: usize = 16;

/// Puts our headers and limits on a channel.
pub(super) fn service(channel: Channel, identity: &Identity) -> Service {
    MessagingServiceClient::with_interceptor(channel, identity.clone())
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}

/// A call that got no business answer.
pub(super) fn transport_failure(address: &str, status: &tonic::Status) -> Failure {
    Failure::runtime(format!(
        "the broker at {address} did not answer: {} ({})",
        innermost(status),
        status.code().description()
    ))
}

/// The tie to one broker endpoint.
#[derive(Debug)]
pub(super) struct Session {
    service: Service,
    settings: Settings,
    keeper: JoinHandle<()>,
}

impl Session {
    /// Connects, sends the settings and waits for the server's.
    pub(super) async fn open(
        address: &str,
        identity: &Identity,
        settings: Settings,
        heartbeat: HeartbeatRequest,
    ) -> Result<Self, Failure> {
        let channel = crate::cli::admin::connect(address, "--endpoint").await?;
        let service = service(channel, identity);
        let (ready, agreed) = oneshot::channel();
        let keeper = tokio::spawn(keep(service.clone(), settings, heartbeat, ready));
        let agreed = tokio::time::timeout(HANDSHAKE_TIMEOUT, agreed).await;
        let refused = |text: String| {
            keeper.abort();
            Err(Failure::runtime(format!(
                "the broker at {address} did not accept the client: {text}"
            )))
        };
        match agreed {
            Ok(Ok(Ok(settings))) => Ok(Self { service, settings, keeper }),
            Ok(Ok(Err(text))) => refused(text),
            Ok(Err(_)) => refused("the telemetry stream broke".to_owned()),
            Err(_) => refused(format!("no settings came within {HANDSHAKE_TIMEOUT:?}")),
        }
    }

    pub(super) fn service(&self) -> Service {
        self.service.clone()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells the broker that the client ends, then lets the stream go.
    pub(super) async fn close(mut self, group: Option<Resource>) {
        let mut request = tonic::Request::new(NotifyClientTerminationRequest { group });
        request.set_timeout(REQUEST_TIMEOUT);
        // Nothing depends on the answer: a silent client is forgotten by the server as well.
        let _ = self.service.notify_client_termination(request).await;
        self.keeper.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

type Ready = oneshot::Sender<Result<Settings, String>>;

async fn keep(service: Service, settings: Settings, heartbeat: HeartbeatRequest, ready: Ready) {
    let mut ready = Some(ready);
    loop {
        let ended = run_stream(service.clone(), &settings, &heartbeat, &mut ready).await;
        // Before the handshake is done, an error is the user's to see; afterwards it is ours to heal.
        if let Some(ready) = ready.take() {
            let _ = ready.send(Err(ended));
            return;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Serves one telemetry stream until it ends; gives the reason.
async fn run_stream(
    mut service: Service,
    settings: &Settings,
    heartbeat: &HeartbeatRequest,
    ready: &mut Option<Ready>,
) -> String {
    let (commands, outbound) = mpsc::channel(COMMANDS_QUEUED_MAX);
    if commands.send(settings_command(settings)).await.is_err() {
        return "the stream closed".to_owned();
    }
    let mut inbound = match service.telemetry(ReceiverStream::new(outbound)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return innermost(&status),
    };
    let mut heartbeats = interval_at(Instant::now(), HEARTBEAT_INTERVAL);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut repeats = interval_at(Instant::now() + SETTINGS_INTERVAL, SETTINGS_INTERVAL);
    loop {
        tokio::select! {
            element = inbound.message() => match element {
                Ok(Some(command)) => {
                    if let Err(text) = handle(command, &commands, ready).await {
                        return text;
                    }
                }
                Ok(None) => return "the broker ended the telemetry stream".to_owned(),
                Err(status) => return innermost(&status),
            },
            _ = heartbeats.tick(), if ready.is_none() => {
                let mut request = tonic::Request::new(heartbeat.clone());
                request.set_timeout(REQUEST_TIMEOUT);
                // A heartbeat that fails is followed by another; a dead broker shows on the stream.
                let _ = service.heartbeat(request).await;
            }
            _ = repeats.tick() => {
                if commands.send(settings_command(settings)).await.is_err() {
                    return "the stream closed".to_owned();
                }
            }
        }
    }
}

/// Takes the server's settings, and answers what a server may ask of any client.
async fn handle(
    received: TelemetryCommand,
    commands: &mpsc::Sender<TelemetryCommand>,
    ready: &mut Option<Ready>,
) -> Result<(), String> {
    if let Some(status) = received.status.as_ref().filter(|status| !ok(status))
        && ready.is_some()
    {
        return Err(status.message.clone());
    }
    let answer = match received.command {
        Some(Command::Settings(settings)) => {
            if let Some(ready) = ready.take() {
                let _ = ready.send(Ok(settings));
            }
            return Ok(());
        }
        Some(Command::PrintThreadStackTraceCommand(command)) => {
            Command::ThreadStackTrace(ThreadStackTrace {
                nonce: command.nonce,
                thread_stack_trace: None,
            })
        }
        Some(Command::VerifyMessageCommand(command)) => {
            Command::VerifyMessageResult(VerifyMessageResult { nonce: command.nonce })
        }
        _ => return Ok(()),
    };
    let status = Status {
        code: Code::NotImplemented.into(),
        message: "the command line client does not do this".to_owned(),
    };
    // A stream that closed meanwhile shows on its other half.
    let _ = commands.send(TelemetryCommand { status: Some(status), command: Some(answer) }).await;
    Ok(())
}

fn settings_command(settings: &Settings) -> TelemetryCommand {
    TelemetryCommand { status: None, command: Some(Command::Settings(settings.clone())) }
}

/// The heartbeat of a role.
pub(super) fn heartbeat(role: &Role) -> HeartbeatRequest {
    HeartbeatRequest { group: role.group(), client_type: role.client_type().into() }
}

/// What a client of this role tells about itself (protocol section 3.2).
pub(super) fn settings(role: &Role, topic: &str, access_point: &Endpoints) -> Settings {
    let pub_sub = match role {
        Role::Producer => settings::PubSub::Publishing(Publishing {
            topics: vec![resource(topic)],
            max_body_size: 0,
            validate_message_type: true,
        }),
        Role::SimpleConsumer { group, filter } => settings::PubSub::Subscription(Subscription {
            group: Some(resource(group)),
            subscriptions: vec![SubscriptionEntry {
                topic: Some(resource(topic)),
                expression: Some(filter.clone()),
            }],
            long_polling_timeout: Some(proto_duration(Duration::from_secs(20))),
            ..Subscription::default()
        }),
    };
    Settings {
        client_type: Some(role.client_type().into()),
        access_point: Some(access_point.clone()),
        request_timeout: Some(proto_duration(REQUEST_TIMEOUT)),
        user_agent: Some(Ua {
            language: Language::Rust.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: std::env::consts::OS.to_owned(),
            hostname: host_name(),
        }),
        pub_sub: Some(pub_sub),
        ..Settings::default()
    }
}

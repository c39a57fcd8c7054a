//! `pinnace bench`: how fast a running broker takes and gives messages, how long each takes, and what it costs the
//! server. Load comes from connections that write ready-made requests, so that the broker is what is measured.
//! Here: arguments, order of events, threads. How load is made stands in `bench/`.

mod connection;
mod consumer;
mod producer;
mod report;
mod seen;
mod server_cpu;
mod template;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use broker_model::limits::{BODY_BYTES_MAX, SEND_BATCH_MESSAGES_MAX};
use broker_proto::admin::{MessageType, Topic};
use clap::Args;

use self::server_cpu::ServerCpu;
use crate::cli::admin::{Admin, AdminArguments, owner};
use crate::cli::client::{Client, Role, by_tags, random};
use crate::cli::failure::Failure;
use crate::cli::output::{OutputArguments, print, say};
use crate::cli::send::EndpointArguments;
use crate::cli::topic::declared_name;

/// The group that receives.
const GROUP: &str = "bench";
/// Queues of a topic that the measurement creates.
const QUEUES: u32 = 8;
/// How long consumers may take for what is left after the last send.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Arguments of `pinnace bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Topic to use; created with 8 queues when missing [default: a new one, deleted afterwards].
    #[arg(long, value_name = "TOPIC", value_parser = declared_name)]
    topic: Option<String>,
    /// Bytes of a message body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(template::BODY_BYTES_MIN as i64..=BODY_BYTES_MAX as i64))]
    size: u32,
    /// Connections that send.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    producers: u32,
    /// Send requests under way per connection.
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    inflight: u32,
    /// Messages per send request.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=SEND_BATCH_MESSAGES_MAX as i64))]
    batch: u32,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Seconds of load before the measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Messages to send per second over all connections; 0 = as many as possible.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u64,
    /// Connections that receive.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    consumers: u32,
    /// Only send.
    #[arg(long)]
    no_receive: bool,
    /// Send delayed messages to a DELAY topic, due this many seconds after the start and up to twice as many; none is
    /// received.
    #[arg(long, value_name = "SECONDS", requires = "no_receive",
          value_parser = clap::value_parser!(u64).range(1..=43_200))]
    delay: Option<u64>,
    /// Process whose CPU time counts as the server's [default: who listens on --endpoint, when local].
    #[arg(long, value_name = "PID", conflicts_with = "server_metrics")]
    server_pid: Option<u32>,
    /// Metrics page with process_cpu_seconds_total of a server elsewhere, as in http://HOST:8082/metrics.
    #[arg(long, value_name = "URL")]
    server_metrics: Option<String>,
    #[command(flatten)]
    endpoint: EndpointArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What every connection of a run knows.
#[derive(Debug)]
struct Run {
    topic: String,
    size_bytes: usize,
    delay: Option<Duration>,
    producers: u32,
    inflight: u32,
    batch: u32,
    rate: u64,
    consumers: u32,
    receives: bool,
    /// Tells messages of this run from all others.
    nonce: u64,
    /// Zero of the time stamps inside the bodies.
    zero: Instant,
    /// The measured time.
    begin: Instant,
    end: Instant,
    /// Messages accepted since the first send, warm-up included.
    accepted: AtomicU64,
    /// Set when no further message will be accepted.
    sending_done: AtomicBool,
    /// The first thing that went wrong; ends the run.
    broken: OnceLock<Failure>,
}

impl Run {
    fn measured(&self, at: Instant) -> bool {
        at >= self.begin && at < self.end
    }

    /// Ends the run; the first failure is the one reported.
    fn fail(&self, failure: Failure) {
        // A later failure only follows from the first.
        let _ = self.broken.set(failure);
    }

    fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    async fn until_broken(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !self.is_broken() {
            looks.tick().await;
        }
    }

    fn drain_deadline(&self) -> Instant {
        self.end + DRAIN_MAX
    }
}

/// Runs `pinnace bench`.
pub(crate) fn run(arguments: BenchArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("cannot start the runtime: {error}")))?;
    let created = arguments.topic.is_none();
    let topic =
        arguments.topic.clone().unwrap_or_else(|| format!("bench-{:08x}", random() & 0xffff_ffff));
    let kind = if arguments.delay.is_some() { MessageType::Delay } else { MessageType::Normal };
    runtime.block_on(create_topic(&arguments.admin, &topic, kind))?;
    let outcome = measure(&runtime, &arguments, &topic);
    if created {
        runtime.block_on(remove_topic(&arguments.admin, &topic));
    }
    let report = outcome?;
    print(arguments.output.format, &report, report::Report::table)?;
    match report.lost() {
        0 => Ok(()),
        lost => Err(Failure::runtime(format!(
            "{lost} accepted messages were not received within {} s after the last send",
            DRAIN_MAX.as_secs()
        ))),
    }
}

async fn create_topic(
    admin: &AdminArguments,
    name: &str,
    kind: MessageType,
) -> Result<(), Failure> {
    let mut admin = Admin::connect(admin).await?;
    if !admin.topics(&[name]).await?.is_empty() {
        return Ok(());
    }
    let topic = Topic {
        name: name.to_owned(),
        r#type: kind.into(),
        queues: QUEUES,
        owner: Some(owner()),
        ..Topic::default()
    };
    admin.create_topic(topic).await.map(drop)
}

/// Best effort: a topic that stays costs disk until its retention, and the next run uses another.
async fn remove_topic(admin: &AdminArguments, name: &str) {
    let removed = async { Admin::connect(admin).await?.delete_topic(name, true).await };
    if let Err(failure) = removed.await {
        say(format_args!("warning: cannot delete topic {name}: {failure}"));
    }
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    arguments: &BenchArguments,
    topic: &str,
) -> Result<report::Report, Failure> {
    let endpoint = &arguments.endpoint.endpoint;
    let cpu = ServerCpu::find(arguments.server_pid, arguments.server_metrics.as_deref(), endpoint)?;
    let consumer = Role::SimpleConsumer { group: GROUP.to_owned(), filter: by_tags("*") };
    let sender = runtime.block_on(Client::start(endpoint, topic, Role::Producer))?;
    let receiver = match arguments.no_receive {
        true => None,
        false => Some(runtime.block_on(Client::start(endpoint, topic, consumer))?),
    };
    let now = Instant::now();
    let begin = now + Duration::from_secs(arguments.warm_up);
    let run = Arc::new(Run {
        topic: topic.to_owned(),
        size_bytes: arguments.size as usize,
        delay: arguments.delay.map(Duration::from_secs),
        producers: arguments.producers,
        inflight: arguments.inflight,
        batch: arguments.batch,
        rate: arguments.rate,
        consumers: arguments.consumers,
        receives: !arguments.no_receive,
        nonce: random(),
        zero: now,
        begin,
        end: begin + Duration::from_secs(arguments.duration),
        accepted: AtomicU64::new(0),
        sending_done: AtomicBool::new(false),
        broken: OnceLock::new(),
    });
    let sending = spawn("bench-send", producer::produce, &run, &sender)?;
    let receiving = match &receiver {
        Some(receiver) => Some(spawn("bench-receive", consumer::consume, &run, receiver)?),
        None => None,
    };
    // The main thread keeps the sessions alive, and reads the clocks of both processes at both ends of the measurement.
    let used = runtime.block_on(async {
        tokio::select! {
            used = cpu.between(run.begin, run.end) => used,
            () = run.until_broken() => server_cpu::Used::default(),
        }
    });
    let sent = join(sending)?;
    run.sending_done.store(true, Ordering::Release);
    let received = receiving.map(join).transpose()?;
    runtime.block_on(async {
        sender.stop().await;
        if let Some(receiver) = receiver {
            receiver.stop().await;
        }
    });
    match run.broken.get() {
        Some(failure) => Err(failure.clone()),
        None => Ok(report::Report::new(&run, &sent, received.as_ref(), used)),
    }
}

/// Starts a thread with a runtime of its own for one side of the load.
fn spawn<T, W, F>(
    name: &str,
    work: W,
    run: &Arc<Run>,
    client: &Client,
) -> Result<std::thread::JoinHandle<T>, Failure>
where
    T: Send + 'static,
    W: FnOnce(Arc<Run>, Vec<connection::Place>) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
{
    let places = connection::places(client);
    let run = Arc::clone(run);
    let cannot = |error| Failure::runtime(format!("cannot start the thread {name}: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let body = move || tokio::task::LocalSet::new().block_on(&runtime, work(run, places));
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(cannot)
}

fn join<T>(thread: std::thread::JoinHandle<T>) -> Result<T, Failure> {
    thread.join().map_err(|_| Failure::runtime("a load thread ended by a fault"))
}

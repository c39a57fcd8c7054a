//! One broker process under test.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use broker_proto::admin::admin_client::AdminClient;
use broker_proto::admin::{ApplyGroupRequest, ApplyTopicRequest, Group, MessageType, Topic};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::{Client, Volume, binary, get};

/// What did not happen by then fails its test.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The number of the signal that nothing can catch.
const SIGNAL_KILL: i32 = 9;
/// Pause between two looks at another process, which can tell us nothing by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Tells a debug build of the broker when its power goes: `<seed>:<operations of the disk>`.
pub const POWER_CUT: &str = "PINNACE_TEST_POWER_CUT";
/// Tells a debug build of the broker how large its segments are.
pub const SEGMENT_BYTES: &str = "PINNACE_TEST_SEGMENT_BYTES";

/// Tells a debug build of the broker when its disk breaks: `<reads, writes or syncs>:<operations that still work>`.
pub const FAILING_DISK: &str = "PINNACE_TEST_FAILING_DISK";

/// Tells a debug build of the broker how much memory it has.
pub const MEMORY_BYTES: &str = "PINNACE_TEST_MEMORY_BYTES";

/// How a broker is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// With so many shards.
    #[must_use]
    pub fn shards(count: u32) -> Self {
        let arguments = vec!["--shards".to_owned(), count.to_string()];
        Self { arguments, ..Self::default() }
    }

    /// With one more variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Whether something in its environment may kill it.
    fn may_be_killed(&self) -> bool {
        self.environment.iter().any(|(name, _)| name == POWER_CUT)
    }

    /// With one more argument and its value.
    #[must_use]
    pub fn with(mut self, argument: &str, value: impl ToString) -> Self {
        self.arguments.extend([argument.to_owned(), value.to_string()]);
        self
    }
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    /// For clients.
    pub listen: SocketAddr,
    /// For probes.
    pub http: SocketAddr,
    /// For the admin API.
    pub admin: SocketAddr,
    /// From spawning to the ready line.
    pub started_in: Duration,
    /// Where its log lines go.
    pub log: PathBuf,
}

/// A folder for one broker's data and log, removed when dropped.
#[derive(Debug)]
pub struct Place(TempDir);

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A new folder.
    ///
    /// # Panics
    /// When the system gives none.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Path of something inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts the data on a volume; the log of the broker stays here.
    ///
    /// # Panics
    /// When there are data already.
    pub fn put_data_on(&self, volume: &Volume) {
        let data = volume.path().join("data");
        std::fs::create_dir_all(&data).expect("the volume is writable");
        std::os::unix::fs::symlink(data, self.data()).expect("no data yet");
    }

    /// The data folder of the broker.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Starts a broker on this folder and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; its log is in the message.
    #[must_use]
    pub fn start(&self, options: &Options) -> Broker {
        start_on(&self.data(), options)
    }

    /// As [`Place::start`]; none when it is killed before it is ready.
    ///
    /// # Panics
    /// When it neither becomes ready nor is killed; its log is in the message.
    #[must_use]
    pub fn start_or_be_killed(&self, options: &Options) -> Option<Broker> {
        try_start_on(&self.data(), options)
    }
}

/// The command that serves a data folder on free ports.
#[must_use]
pub fn serve_command(data: &Path, options: &Options) -> Command {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--data").arg(data).stdin(Stdio::null());
    for port in ["--listen", "--http", "--admin"] {
        if !options.arguments.iter().any(|argument| argument == port) {
            command.args([port, "127.0.0.1:0"]);
        }
    }
    command.args(&options.arguments);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Starts a broker on a data folder and waits until it is ready. Its log is written beside the folder.
///
/// # Panics
/// When it does not become ready; its log is in the message.
#[must_use]
pub fn start_on(data: &Path, options: &Options) -> Broker {
    try_start_on(data, options).expect("nothing kills it")
}

fn try_start_on(data: &Path, options: &Options) -> Option<Broker> {
    let log = data.with_extension("log");
    let file = File::options().create(true).append(true).open(&log).expect("a log file");
    let mut command = serve_command(data, options);
    let begun = Instant::now();
    let spawned = command.stdout(Stdio::piped()).stderr(file).spawn();
    let mut process = spawned.expect("the binary can be run");
    let stdout = process.stdout.take().expect("stdout is piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("stdout is text");
    let started_in = begun.elapsed();
    let addresses = addresses(&line);
    if addresses.is_none() {
        // It may have ended by itself.
        let ended = process.try_wait().ok().flatten();
        let _ = process.kill();
        let ended = ended.or_else(|| process.wait().ok());
        let is_killed = ended.and_then(|status| status.signal()) == Some(SIGNAL_KILL);
        if is_killed && options.may_be_killed() {
            return None;
        }
    }
    let no_line = || format!("no ready line but {line:?}; the log says:\n{}", read(&log));
    let [listen, http, admin] = addresses.ok_or_else(no_line).expect("the broker becomes ready");
    Some(Broker { process, listen, http, admin, started_in, log })
}

/// `pinnace is ready: clients A, http B, admin C`
fn addresses(line: &str) -> Option<[SocketAddr; 3]> {
    let words = line.trim_end().strip_prefix("pinnace is ready: ")?.split(", ");
    let found: Vec<SocketAddr> = words.filter_map(|w| w.split_once(' ')?.1.parse().ok()).collect();
    found.try_into().ok()
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

impl Broker {
    /// A new client.
    ///
    /// # Panics
    /// When the port does not answer.
    pub async fn client(&self, id: &str) -> Client {
        Client::connect(self.listen, id).await.expect("the broker takes connections")
    }

    /// A client of the admin API.
    ///
    /// # Panics
    /// When the port does not answer.
    pub async fn admin(&self) -> AdminClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.admin)).expect("an address");
        AdminClient::new(endpoint.connect().await.expect("the admin port takes connections"))
    }

    /// Creates a NORMAL topic and a group, both with default settings.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create(&self, topic: &str, group: &str) {
        self.create_topic(topic, MessageType::Normal).await;
        self.create_group(group, 0).await;
    }

    /// Creates a topic of four queues.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create_topic(&self, name: &str, message_type: MessageType) {
        let topic = Topic {
            name: name.to_owned(),
            r#type: message_type.into(),
            queues: 4,
            ..Topic::default()
        };
        let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
        self.admin().await.apply_topic(request).await.expect("the topic is created");
    }

    /// Creates a group; 0 attempts are the default.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn create_group(&self, name: &str, max_attempts: u32) {
        let retry = broker_proto::admin::RetryPolicy { max_attempts, backoff: None };
        let group = Group { name: name.to_owned(), retry: Some(retry), ..Group::default() };
        let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
        self.admin().await.apply_group(request).await.expect("the group is created");
    }

    /// One number of the metrics page: the sum over all lines whose labels contain `label`.
    ///
    /// # Panics
    /// When the page cannot be read.
    #[must_use]
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let page = get(self.http, "/metrics").expect("the page is served");
        page.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Waits until the metric is at least this.
    ///
    /// # Panics
    /// After half a minute.
    pub async fn wait_for_metric(&self, name: &str, label: &str, least: f64) {
        let begun = Instant::now();
        while self.metric(name, label) < least {
            assert!(begun.elapsed() < WAIT_MAX, "{name} {label} never reached {least}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Everything it logged so far.
    #[must_use]
    pub fn logged(&self) -> String {
        read(&self.log)
    }

    /// Its number in the system.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn kill(mut self) {
        self.process.kill().expect("it is ours to kill");
        self.process.wait().expect("it ends");
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn terminate(&self) {
        let id = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let id = id.expect("process ids are positive");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it is ours");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn exit(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begun.elapsed() < WAIT_MAX, "it does not end; its log:\n{}", self.logged());
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

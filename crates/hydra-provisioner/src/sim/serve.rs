//! `sim serve`: the model of the queue runner in (scaled) real time, for a real provisioner.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use planner::{Feature, System, Timestamp};
use serde::Deserialize;
use simulator::engine::{Engine, Millis, Purpose, Random, Seed};
use simulator::queue_runner::{Epoch, Host, Offer, QueueRunner, Settings, Start};
use simulator::workload::{StepIndex, Workload};

use super::input::{self, Trace};
use super::runs::stop_on_signals;
use crate::console::{fail, print};
use crate::exit::Exit;
use crate::http::{self, Answer, Socket};
use crate::sim::args::Serve;

/// How often the machines file is read and the status file written, in real time.
const TICK: Duration = Duration::from_millis(100);

const NOT_HERE: &str = "not here; there are GET /status, /status/machines, /status/queues, /classic, /derivations, \
                        PUT and DELETE /builders/NAME";

enum Event {
    Submit,
    Cancel,
    Finish(Start),
    Retry(StepIndex),
    Dispatch,
    DispatchTimer,
}

/// A queue runner with machines that build in real time.
struct SimulatedQueueRunner {
    engine: Engine<Event>,
    queue_runner: QueueRunner,
    workload: Arc<Workload>,
    submitted: usize,
    /// Number of canceled steps so far.
    canceled: usize,
    rng: Random,
    epoch: Epoch,
    began: Instant,
    speed: u64,
    /// `None`: REST.
    machines_file: Option<PathBuf>,
    hosts: BTreeMap<String, Host>,
    listed: BTreeMap<Host, Offer>,
}

/// Runs until a signal.
pub(super) fn serve(args: &Serve) -> Result<Exit, Exit> {
    let stop = stop_on_signals()?;
    let simulated = Arc::new(Mutex::new(SimulatedQueueRunner::new(args)?));
    if let Some(address) = args.listen {
        listen(address, Arc::clone(&simulated))?;
    }
    while !stop.load(Ordering::Relaxed) {
        let classic = lock(&simulated).tick().to_string();
        if let Some(file) = &args.status_file {
            // Written to another file and renamed, so that no reader sees a partial file.
            let new = file.with_extension("new");
            fs::write(&new, classic).and_then(|()| fs::rename(&new, file)).map_err(|error| {
                fail(Exit::Unexpected, &format!("cannot write {}: {error}", file.display()))
            })?;
        }
        sleep(&stop);
    }
    let unfinished = lock(&simulated).queue_runner.unfinished();
    let have = if unfinished == 1 { "has" } else { "have" };
    print(format!("{} {have} not ended\n", planner::counted(unfinished as u64, "step")))?;
    Ok(Exit::Done)
}

fn sleep(stop: &AtomicBool) {
    if !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
    }
}

fn lock(simulated: &Mutex<SimulatedQueueRunner>) -> MutexGuard<'_, SimulatedQueueRunner> {
    simulated.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr, simulated: Arc<Mutex<SimulatedQueueRunner>>) -> Result<(), Exit> {
    let cannot = |error: std::io::Error| {
        fail(Exit::Unexpected, &format!("cannot listen on {address}: {error}"))
    };
    let listener = TcpListener::bind(address).map_err(cannot)?;
    let place = listener.local_addr().map_err(cannot)?;
    http::serve(vec![Socket::Tcp(listener)], move |request| answer(&request, &simulated))
        .map_err(cannot)?;
    print(format!("listening on http://{place}\n"))
}

fn answer(request: &Request<Bytes>, simulated: &Mutex<SimulatedQueueRunner>) -> Answer {
    let url = request.uri().path_and_query().map_or("/", |url| url.as_str());
    let Ok(body) = std::str::from_utf8(request.body()) else {
        return http::answer_with(StatusCode::BAD_REQUEST, "the body is not UTF-8\n");
    };
    match lock(simulated).answer(request.method(), url, body) {
        (StatusCode::OK, text) => {
            let mut answer = http::answer(text);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        (status, text) => http::answer_with(status, text),
    }
}

/// A builder's capacity, as in the REST server's `machines`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Builder {
    systems: Vec<System>,
    #[serde(default)]
    supported_features: Vec<Feature>,
    #[serde(default)]
    mandatory_features: Vec<Feature>,
    #[serde(default = "one")]
    max_jobs: u32,
    #[serde(default = "normal")]
    speed_factor: f64,
}

fn one() -> u32 {
    1
}

fn normal() -> f64 {
    1.0
}

impl From<Builder> for Offer {
    fn from(builder: Builder) -> Self {
        Self {
            systems: builder.systems,
            supported_features: builder.supported_features,
            mandatory_features: builder.mandatory_features,
            max_jobs: builder.max_jobs.max(1),
            speed_thousandths: thousandths(builder.speed_factor),
        }
    }
}

impl SimulatedQueueRunner {
    fn new(args: &Serve) -> Result<Self, Exit> {
        let trace = Trace::read(&args.trace)?;
        let seed = trace.first_seed(args.seed);
        let (workload, settings) = trace.work(seed)?;
        let given = match &args.farm {
            Some(file) => Some(input::farm(file)?.queue_runner),
            None => settings,
        };
        let usual = if args.machines_file.is_some() { Settings::CLASSIC } else { Settings::REST };
        let fits = |given: &Settings| given.protocol == usual.protocol;
        if let (Some(file), false) = (&args.farm, given.as_ref().is_none_or(fits)) {
            let message = format!(
                "{}: queueRunner.protocol must be classic with --machines-file, rest without",
                file.display()
            );
            return Err(fail(Exit::BadConfig, &message));
        }
        let settings = given.filter(fits).unwrap_or(usual);
        let mut engine = Engine::new();
        if let Some(first) = workload.steps().first() {
            engine.schedule(first.submit(), Event::Submit);
        }
        if let Some((first, _)) = workload.cancellations().first() {
            engine.schedule(*first, Event::Cancel);
        }
        engine.schedule(settings.dispatch_timer, Event::DispatchTimer);
        Ok(Self {
            engine,
            queue_runner: QueueRunner::new(settings, Arc::clone(&workload)),
            workload,
            submitted: 0,
            canceled: 0,
            rng: Seed(seed).stream(Purpose::QueueRunner, 0),
            epoch: Epoch(Timestamp(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0))),
            began: Instant::now(),
            speed: args.speed,
            machines_file: args.machines_file.clone(),
            hosts: BTreeMap::new(),
            listed: BTreeMap::new(),
        })
    }

    /// Processes everything that is due; returns the classic status.
    fn tick(&mut self) -> serde_json::Value {
        let real = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = Millis(real.saturating_mul(self.speed));
        while let Some(event) = self.engine.next_until(now) {
            self.handle(&event);
            self.dispatch();
        }
        self.read_machines();
        self.dispatch();
        self.queue_runner.classic_json(now, self.epoch)
    }

    fn handle(&mut self, event: &Event) {
        let now = self.engine.now();
        match event {
            Event::Submit => self.submit(now),
            Event::Cancel => self.cancel(now),
            Event::Finish(start) => self.queue_runner.succeeded(*start, now),
            Event::Retry(step) => self.queue_runner.retry(*step, now),
            Event::DispatchTimer => {
                let timer = self.queue_runner.settings().dispatch_timer;
                self.engine.schedule_in(timer, Event::DispatchTimer);
                self.queue_runner.wake();
            }
            Event::Dispatch => self.queue_runner.wake(),
        }
    }

    fn submit(&mut self, now: Millis) {
        let workload = Arc::clone(&self.workload);
        for step in workload.indices_from(self.submitted) {
            let submit = workload.steps()[step.position()].submit();
            if submit > now {
                self.engine.schedule(submit, Event::Submit);
                return;
            }
            self.submitted += 1;
            self.queue_runner.submit(step, now);
        }
    }

    /// A canceled step leaves its machine at once; its `Finish` is ignored.
    fn cancel(&mut self, now: Millis) {
        let workload = Arc::clone(&self.workload);
        while let Some((at, step)) = workload.cancellations().get(self.canceled).copied() {
            if at > now {
                self.engine.schedule(at, Event::Cancel);
                return;
            }
            self.canceled += 1;
            self.queue_runner.cancel(step, now);
        }
    }

    fn dispatch(&mut self) {
        let now = self.engine.now();
        match self.queue_runner.take_wake(now) {
            Some(at) if at > now => self.engine.schedule(at, Event::Dispatch),
            Some(_) => self.start_steps(),
            None => {}
        }
    }

    fn start_steps(&mut self) {
        let now = self.engine.now();
        let mut starts = Vec::new();
        self.queue_runner.dispatch(now, &mut starts);
        for start in starts {
            let duration = self.workload.steps()[start.step.position()].duration();
            let speed = self.listed.get(&start.host).map_or(1000, |offer| offer.speed_thousandths);
            let length = duration.0.saturating_mul(1000) / u64::from(speed.max(1));
            self.engine.schedule_in(Millis(length), Event::Finish(start));
        }
    }

    /// Reads the machines file at every tick: more often than the real queue runner.
    fn read_machines(&mut self) {
        let Some(file) = &self.machines_file else { return };
        // A missing file has no machines.
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines = BTreeMap::new();
        for (name, offer) in text.lines().filter_map(machine) {
            lines.insert(self.host(&name), offer);
        }
        if lines != self.listed {
            self.queue_runner.read_machines_file(&lines);
            self.listed = lines;
        }
    }

    /// The host of that name, created if it is new.
    fn host(&mut self, name: &str) -> Host {
        let next = Host(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        let host = *self.hosts.entry(name.to_owned()).or_insert(next);
        self.queue_runner.name_host(host, name);
        host
    }

    /// Status code and body.
    fn answer(&mut self, method: &Method, url: &str, body: &str) -> (StatusCode, String) {
        let classic = self.tick();
        let now = self.engine.now();
        let answer = match (method.as_str(), url) {
            ("GET", "/classic") => Ok(classic),
            ("GET", "/status") => Ok(self.status(now)),
            ("GET", "/status/machines") => {
                Ok(serde_json::json!({ "machines": self.status(now)["machines"] }))
            }
            ("GET", "/status/queues") => Ok(self.queue_runner.rest_queues_json()),
            ("GET", "/derivations") => Ok(self.queue_runner.derivations_json()),
            ("PUT" | "DELETE", _) => self.change_builder(method, url, body),
            _ => Err((StatusCode::NOT_FOUND, NOT_HERE.to_owned())),
        };
        match answer {
            Ok(answer) => (StatusCode::OK, answer.to_string()),
            Err((code, problem)) => (code, problem + "\n"),
        }
    }

    fn status(&self, now: Millis) -> serde_json::Value {
        let mut status = self.queue_runner.rest_status_json(now, self.epoch);
        let second = i64::try_from(self.epoch.at(now).0).unwrap_or(i64::MAX);
        if let Ok(time) = jiff::Timestamp::from_second(second) {
            status["queueRunner"]["time"] = time.to_string().into();
        }
        status
    }

    fn change_builder(
        &mut self,
        method: &Method,
        url: &str,
        body: &str,
    ) -> Result<serde_json::Value, (StatusCode, String)> {
        let name = url.strip_prefix("/builders/").filter(|name| !name.is_empty());
        let name = name.ok_or((StatusCode::NOT_FOUND, NOT_HERE.to_owned()))?;
        if self.machines_file.is_some() {
            let problem =
                "this is a classic queue runner: its machines are those of the machines file";
            return Err((StatusCode::CONFLICT, problem.to_owned()));
        }
        let now = self.engine.now();
        let host = self.host(name);
        if *method == Method::PUT {
            let builder: Builder = serde_json::from_str(body).map_err(|error| {
                (StatusCode::BAD_REQUEST, format!("what the builder offers: {error}"))
            })?;
            let offer = builder.into();
            self.queue_runner.connect(host, &offer, now);
            self.listed.insert(host, offer);
        } else {
            self.listed.remove(&host);
            for start in self.queue_runner.disconnect(host) {
                if let Some(at) = self.queue_runner.aborted(start, now, &mut self.rng) {
                    self.engine.schedule(at, Event::Retry(start.step));
                }
            }
            self.dispatch();
        }
        Ok(serde_json::json!({}))
    }
}

/// A line of a machines file (columns: `nix.machines` in Nix's manual): the host and its capacity.
fn machine(line: &str) -> Option<(String, Offer)> {
    let line = line.split('#').next().unwrap_or_default();
    let mut columns = line.split_ascii_whitespace();
    let uri = columns.next()?;
    let uri = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let host = uri.split_once('?').map_or(uri, |(host, _)| host);
    let host = host.rsplit('@').next()?.to_owned();
    let list = |column: Option<&str>| -> Vec<String> {
        let names =
            column.unwrap_or("-").split(',').filter(|name| !name.is_empty() && *name != "-");
        names.map(str::to_owned).collect()
    };
    let systems = list(columns.next());
    let _key = columns.next();
    let max_jobs = columns.next().and_then(|number| number.parse().ok()).unwrap_or(1);
    let speed: f64 = columns.next().and_then(|number| number.parse().ok()).unwrap_or(1.0);
    let supported = list(columns.next());
    let mandatory = list(columns.next());
    let offer = Offer {
        systems: systems.iter().map(System::new).collect(),
        supported_features: supported.iter().chain(&mandatory).map(Feature::new).collect(),
        mandatory_features: mandatory.iter().map(Feature::new).collect(),
        max_jobs,
        speed_thousandths: thousandths(speed),
    };
    Some((host, offer))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn thousandths(factor: f64) -> u32 {
    ((factor * 1000.0) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_machines_files_are_read() {
        let (host, offer) = machine(
            "ssh://root@10.0.0.7?ssh-key=/k x86_64-linux,i686-linux /k 4 1.5 kvm,big big c3Nc",
        )
        .unwrap();
        assert_eq!(host, "10.0.0.7");
        assert_eq!((offer.max_jobs, offer.speed_thousandths), (4, 1500));
        assert_eq!(offer.systems.len(), 2);
        assert_eq!(offer.supported_features.len(), 3);
        assert_eq!(offer.mandatory_features, [Feature::new("big")]);
        let (host, offer) = machine("root@host x86_64-linux").unwrap();
        assert_eq!((host.as_str(), offer.max_jobs, offer.speed_thousandths), ("host", 1, 1000));
        assert_eq!(machine("# nothing"), None);
    }
}

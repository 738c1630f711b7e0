//! `sim import postgres`: reads the builds of a Hydra from its database.

use std::error::Error as _;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use postgres::config::Host;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, Config, IsolationLevel, NoTls, Row, Transaction};
use simulator::workload::import::{HydraStep, HydraSteps, ImportError, Imported, Order, Own};

/// Rows per request: the database may have a hundred million.
const ROWS_AT_A_TIME: i32 = 10_000;

const STEPS: &str = "\
select s.build, b.timestamp, j.project || ':' || j.name, j.schedulingShares, b.priority, b.globalPriority, \
       s.type, s.busy, s.status, s.propagatedFrom, s.startTime, s.stopTime, coalesce(s.system, b.system), \
       s.drvPath = b.drvPath \
from BuildSteps s join Builds b on b.id = s.build join Jobsets j on j.id = b.jobset_id \
where b.timestamp >= $1 and b.timestamp < $2 \
order by b.timestamp, s.build, s.stepnr";

/// A Hydra's database, read-only.
#[derive(Debug, Args)]
pub(crate) struct Database {
    #[arg(
        value_name = "URL",
        help = "postgresql://USER@HOST/hydra, or \"host=/run/postgresql dbname=hydra\""
    )]
    url: Url,
    /// Only builds queued at or after TIME, such as 2026-01-31T00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Only builds queued before TIME
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// How to reconstruct dependencies between the steps of a build: Hydra does not record them
    #[arg(long, value_enum, default_value = "certain")]
    order: StepOrder,
}

/// Address and credentials of the database. Its output never contains the password.
#[derive(Clone, Debug)]
struct Url(Box<Config>);

impl FromStr for Url {
    type Err = postgres::Error;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        url.parse().map(|config| Self(Box::new(config)))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StepOrder {
    /// Only the build's own step depends on the others: maximum parallelism
    Certain,
    /// A step also depends on the one that ended last before it started: as observed
    Observed,
}

/// Why the import failed. Shown with a remedy.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database cannot be reached.
    Connect(postgres::Error),
    /// Its answer is not that of a Hydra database.
    Query(postgres::Error),
    /// Its content is not a valid trace.
    Import(ImportError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => {
                write!(f, "cannot connect: {}; check the URL and pg_hba.conf", cause(error))
            }
            Self::Query(error) => {
                write!(f, "cannot read the builds: {}", cause(error))?;
                f.write_str(match error.code() {
                    Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => {
                        "; is this the database of a Hydra?"
                    }
                    Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                        "; grant select on Builds, BuildSteps and Jobsets to this user"
                    }
                    _ => "",
                })
            }
            Self::Import(error) => write!(f, "{error}; narrow it down with --since and --until"),
        }
    }
}

/// The error itself is only "db error"; its cause has the details.
fn cause(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(reported) => reported.message().to_owned(),
        None => error.source().map_or_else(|| error.to_string(), ToString::to_string),
    }
}

impl Database {
    /// The source, without user and password.
    pub(crate) fn name(&self) -> String {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        let hosts: Vec<_> = self.url.0.get_hosts().iter().map(host).collect();
        format!(
            "Hydra's database {} at {}",
            self.url.0.get_dbname().unwrap_or("?"),
            hosts.join(", ")
        )
    }

    /// Reads the steps, in one transaction that cannot write.
    ///
    /// # Errors
    /// When the database cannot be reached or is not Hydra's.
    pub(crate) fn read(&self) -> Result<Imported, Failure> {
        let mut config = self.url.0.clone();
        config.application_name("hydra-provisioner sim import");
        let mut client = config.connect(NoTls).map_err(Failure::Connect)?;
        let mut transaction = read_only(&mut client).map_err(Failure::Query)?;
        let mut steps = HydraSteps::new(self.order.into());
        let range = [seconds(self.since, i32::MIN), seconds(self.until, i32::MAX)];
        let portal = transaction.bind(STEPS, &[&range[0], &range[1]]).map_err(Failure::Query)?;
        loop {
            let mut rows =
                transaction.query_portal_raw(&portal, ROWS_AT_A_TIME).map_err(Failure::Query)?;
            let mut any = false;
            while let Some(row) = rows.next().map_err(Failure::Query)? {
                any = true;
                steps.add(step(&row).map_err(Failure::Query)?).map_err(Failure::Import)?;
            }
            if !any {
                return steps.finish().map_err(Failure::Import);
            }
        }
    }
}

/// A consistent, read-only snapshot.
fn read_only(client: &mut Client) -> Result<Transaction<'_>, postgres::Error> {
    client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
}

/// Hydra's columns have 32 bits.
fn seconds(time: Option<jiff::Timestamp>, otherwise: i32) -> i32 {
    time.map_or(otherwise, |time| i32::try_from(time.as_second()).unwrap_or(otherwise))
}

/// In the order of [`STEPS`].
fn step(row: &Row) -> Result<HydraStep, postgres::Error> {
    Ok(HydraStep {
        build: row.try_get(0)?,
        queued_at: row.try_get(1)?,
        jobset: row.try_get(2)?,
        shares: row.try_get(3)?,
        priority: row.try_get(4)?,
        global_priority: row.try_get(5)?,
        step_type: row.try_get(6)?,
        busy: row.try_get(7)?,
        status: row.try_get(8)?,
        propagated_from: row.try_get(9)?,
        started_at: row.try_get(10)?,
        stopped_at: row.try_get(11)?,
        system: row.try_get(12)?,
        is_own: if row.try_get(13)? { Own::Yes } else { Own::No },
    })
}

impl From<StepOrder> for Order {
    fn from(order: StepOrder) -> Self {
        match order {
            StepOrder::Certain => Self::Certain,
            StepOrder::Observed => Self::Observed,
        }
    }
}

#[cfg(test)]
#[path = "../../tests/farm/database.rs"]
mod database;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::database::Server;
    use super::*;

    /// The columns that are read, of the types they have in Hydra's `hydra.sql` at 14332fbf.
    const SCHEMA: &str = "
        create table Jobsets (id serial primary key, name text not null, project text not null,
          schedulingShares integer not null default 100);
        create table Builds (id serial primary key not null, timestamp integer not null,
          jobset_id integer not null references Jobsets(id), drvPath text not null, system text not null,
          priority integer not null default 0, globalPriority integer not null default 0);
        create table BuildSteps (build integer not null references Builds(id), stepnr integer not null,
          type integer not null, drvPath text not null, busy integer not null, status integer,
          startTime integer, stopTime integer, system text, propagatedFrom integer,
          primary key (build, stepnr));";

    /// 30,000 builds a minute apart from 2023-11-14T22:13:20Z on, of two steps each; one more without.
    const ROWS: &str = "
        insert into Jobsets (name, project, schedulingShares) values ('trunk', 'nixpkgs', 70), ('small', 'nixos', 30);
        insert into Builds (timestamp, jobset_id, drvPath, system, priority)
          select 1700000000 + n * 60, 1 + n % 2, 'app' || n || '.drv', 'x86_64-linux', 100
          from generate_series(0, 30000) n;
        insert into BuildSteps select id, 1, 0, 'lib' || id || '.drv', 0, 0, timestamp + 5, timestamp + 35,
          'aarch64-linux', null from Builds where id <= 30000;
        insert into BuildSteps select id, 2, 0, drvPath, 0, 0, timestamp + 40, timestamp + 100, null, null
          from Builds where id <= 30000;
        insert into BuildSteps select id, 3, 1, 'src.drv', 0, 0, timestamp, timestamp + 1, null, null
          from Builds where id <= 30000;";

    fn fill(server: &Server) {
        let mut client = server.client();
        client.batch_execute(SCHEMA).unwrap();
        client.batch_execute(ROWS).unwrap();
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        database: Database,
    }

    fn import(args: &[&str]) -> Result<Imported, String> {
        let line = Line::try_parse_from([&["import"], args].concat()).unwrap();
        let name = line.database.name();
        assert!(name.starts_with("Hydra's database ") && name.ends_with(" at 127.0.0.1"), "{name}");
        line.database.read().map_err(|error| error.to_string())
    }

    #[test]
    fn a_hydras_builds_become_a_workload() {
        let server = Server::start();
        let url = server.url("postgres");
        let error = import(&[&url]).unwrap_err();
        assert_eq!(
            error,
            "cannot read the builds: relation \"buildsteps\" does not exist; is this the database of a Hydra?"
        );
        fill(&server);

        let imported = import(&[&url]).unwrap();
        let workload = &imported.workload;
        assert_eq!(workload.steps().len(), 60_000, "more than are asked for at a time");
        assert_eq!(workload.last_submission().whole_seconds(), 29_999 * 60);
        let first: Vec<_> = workload.steps()[..2]
            .iter()
            .map(|step| (workload.kind_of(step).to_string(), step.duration().whole_seconds()))
            .collect();
        assert_eq!(first, [("aarch64-linux".to_owned(), 30), ("x86_64-linux".to_owned(), 60)]);
        assert_eq!(workload.dependents_of(0).collect::<Vec<_>>(), [2]);
        let step = &workload.steps()[1];
        assert_eq!((workload.class_of(step).local_priority, step.build()), (100, 1));
        let shares: Vec<_> =
            workload.jobsets().iter().map(|jobset| (jobset.name.as_str(), jobset.shares)).collect();
        assert_eq!(shares, [("nixpkgs:trunk", 70), ("nixos:small", 30)]);
        assert_eq!(imported.left_out[0], "30000 substitutions, which need no build machine");

        let hour = ["--since", "2023-11-15T00:00Z", "--until", "2023-11-15T01:00Z"];
        let part = import(&[&[url.as_str(), "--order", "observed"], &hour[..]].concat()).unwrap();
        assert_eq!(part.workload.steps().len(), 120);
        assert!(
            part.workload.steps()[0].submit().whole_seconds() == 0,
            "time 0 is the first build's"
        );
    }

    #[test]
    fn a_database_that_is_not_there_is_told() {
        let error = import(&["postgresql://hydra:secret@127.0.0.1:1/hydra"]).unwrap_err();
        assert!(error.starts_with("cannot connect: "), "{error}");
        assert!(error.ends_with("; check the URL and pg_hba.conf"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

//! Questions to the queue runner: when to ask, and which answers to trust.

use planner::{AwaitReason, Queue, QueueStatus, ReleaseStep, Seconds, Sequence, Timestamp};

use super::Reconciler;
use crate::boundary::Effect;
use crate::history::Happening;
use crate::ids::{ListingId, QuestionId};
use crate::waits::Waits;

/// How soon to ask again after an answer that is stale or not newer than the last one.
const ASK_AGAIN_AFTER: Seconds = Seconds(1);
/// How many such quick questions may follow each other. After them the regular interval applies.
const MAX_QUICK_QUESTIONS: u32 = 3;

/// The questions asked, and the queue status.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    last: QuestionId,
    last_listing: ListingId,
    /// The question that is under way, and the moment when it was asked.
    asked: Option<(QuestionId, Sequence)>,
    last_asked: Option<Timestamp>,
    /// Ask at this time, even if the interval is not over.
    ask_at: Option<Timestamp>,
    /// How many questions in a row came before the interval was over ([`MAX_QUICK_QUESTIONS`]).
    quick: u32,
    /// The last queue status.
    pub(crate) status: QueueStatus,
    /// The moment when it was requested, in the order of [`Sequence`].
    pub(crate) moment: Sequence,
    /// When that was, by our clock.
    pub(crate) moment_at: Option<Timestamp>,
    /// A cautious estimate of how long answers take: falls at once, and grows by at most a second with each answer, so that
    /// one late answer among fast ones changes little.
    pub(crate) latency: Seconds,
    /// The moment of the last answered question, whether or not the answer was newer.
    answered: Sequence,
    is_answered: bool,
    /// The newest answer.
    newest: Option<AnswerTime>,
    /// The last answer with a clock offset that contradicts that of `newest` (more than `maxStatusAge`): an old answer from a
    /// cache, or a clock was set. If the next answer agrees with it and is later, a clock was set, and that one becomes `newest`.
    suspect: Option<AnswerTime>,
    /// Whether the time in the answers has advanced since the first one. Then the queue runner's clock may be wrong, but its
    /// answers are live.
    has_advanced: bool,
    pub(crate) waits: Waits,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            last: QuestionId::default(),
            last_listing: ListingId::default(),
            asked: None,
            last_asked: None,
            ask_at: None,
            quick: 0,
            status: QueueStatus::Unavailable("it has not been asked yet".to_owned()),
            moment: Sequence(0),
            moment_at: None,
            latency: Seconds(0),
            answered: Sequence(0),
            is_answered: false,
            newest: None,
            suspect: None,
            has_advanced: false,
            waits: Waits::default(),
        }
    }
}

/// When an answer was created.
#[derive(Clone, Copy, Debug)]
struct AnswerTime {
    /// By the queue runner's clock.
    time: Timestamp,
    /// When we first saw it.
    seen: Timestamp,
    /// How far it is ahead of our clock.
    offset_seconds: i64,
}

impl AnswerTime {
    /// Whether the two cannot both be live answers by the same clock.
    fn contradicts(self, other: Self, max_age: Seconds) -> bool {
        self.offset_seconds.abs_diff(other.offset_seconds) > max_age.0
    }
}

/// How an answer compares with earlier answers.
enum Freshness {
    /// It is newer than all earlier answers, of which there is at least one, or has no time.
    New,
    /// It is the first one, or may be the same as the last one.
    NotNewer,
    /// It is older than an earlier answer.
    Older,
    /// It is too old to be trusted.
    Stale(String),
}

impl Questions {
    pub(crate) fn next_listing(&mut self) -> ListingId {
        self.last_listing.advance()
    }

    /// Asks at once, because something waits for a newer status.
    pub(crate) fn ask_soon(&mut self) {
        self.ask_at = Some(Timestamp(0));
        self.quick = 0;
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered
    }

    pub(crate) fn are_settled(&self) -> bool {
        self.asked.is_none() && self.ask_at.is_none()
    }

    pub(crate) fn shift(&mut self, seconds: i64) {
        self.last_asked = self.last_asked.map(|at| at.shifted(seconds));
        self.ask_at = self.ask_at.map(|at| at.shifted(seconds));
        self.moment_at = self.moment_at.map(|at| at.shifted(seconds));
        for answer in [&mut self.newest, &mut self.suspect].into_iter().flatten() {
            answer.seen = answer.seen.shifted(seconds);
            answer.offset_seconds = answer.offset_seconds.saturating_sub(seconds);
        }
        self.waits.shift(seconds);
    }

    fn note_latency(&mut self, now: Timestamp) {
        let took = self.last_asked.map_or(Seconds(0), |at| now.since(at));
        self.latency = took.min(self.latency.plus(Seconds(1)));
    }

    fn next_at(&self, interval: Seconds) -> Timestamp {
        let regular = self.last_asked.map_or(Timestamp(0), |at| at.after(interval));
        self.ask_at.map_or(regular, |at| at.min(regular))
    }

    /// How new `queue` is. The answer came at `now`.
    fn freshness(&mut self, queue: &Queue, now: Timestamp, max_age: Seconds) -> Freshness {
        // A status without a time is accepted.
        let Some(time) = queue.time else { return Freshness::New };
        let answer = AnswerTime { time, seen: now, offset_seconds: queue.clock_offset_seconds };
        let newest = *self.newest.get_or_insert(answer);
        let advanced = if answer.contradicts(newest, max_age) {
            let suspect = self.suspect.replace(answer);
            suspect.is_some_and(|it| it.time < time && !answer.contradicts(it, max_age))
        } else {
            newest.time < time
        };
        if advanced {
            self.newest = Some(answer);
        }
        if advanced || !answer.contradicts(newest, max_age) {
            self.suspect = None;
        }
        self.has_advanced |= advanced;
        let unchanged_since = self.newest.map_or(now, |newest| newest.seen);
        if now.since(unchanged_since) >= max_age {
            self.has_advanced = false;
            // Not for how long: a reason that changes with every answer would fill the log and the history.
            return Freshness::Stale(format!(
                "its time has been {} since {unchanged_since}: the answer is old",
                newest.time
            ));
        }
        let age = Seconds(queue.clock_offset_seconds.min(0).unsigned_abs());
        if age > max_age && !self.has_advanced {
            return Freshness::Stale(format!(
                "it is from {time}, longer ago by our clock than maxStatusAge ({max_age}): set both hosts' clocks (NTP), or, if \
                 statusCommand prints what was stored before, ask the queue runner itself"
            ));
        }
        if advanced {
            Freshness::New
        } else if newest.time == time {
            // Nothing shows yet that the first answer is live: our clock may have been set back before we started.
            Freshness::NotNewer
        } else {
            Freshness::Older
        }
    }
}

impl Reconciler {
    /// Asks the queue runner and lists the providers that are due.
    pub(crate) fn ask(&mut self) {
        let interval = self.configuration.timing.poll_interval;
        if self.questions.asked.is_none() && self.questions.next_at(interval) <= self.now {
            let moment = self.next_moment();
            let questions = &mut self.questions;
            let question = questions.last.advance();
            questions.asked = Some((question, moment));
            questions.last_asked = Some(self.now);
            questions.ask_at = None;
            self.effects.push_back(Effect::AskQueue(question));
        }
        self.list_providers();
    }

    pub(crate) fn next_question(&self) -> Option<Timestamp> {
        let interval = self.configuration.timing.poll_interval;
        let questions = &self.questions;
        let question = questions.asked.is_none().then(|| questions.next_at(interval));
        [question, self.next_listing_at()].into_iter().flatten().min()
    }

    pub(crate) fn queue_answered(&mut self, question: QuestionId, status: QueueStatus) {
        let Some((_, moment)) = self.questions.asked.take_if(|(asked, _)| *asked == question)
        else {
            return;
        };
        self.questions.is_answered = true;
        self.questions.note_latency(self.now);
        self.questions.answered = moment;
        let max_age = self.configuration.timing.max_status_age;
        let status = match status {
            QueueStatus::Up(queue) => match self.questions.freshness(&queue, self.now, max_age) {
                Freshness::New => {
                    self.questions.moment = moment;
                    self.questions.moment_at = self.questions.last_asked;
                    self.questions.quick = 0;
                    QueueStatus::Up(queue)
                }
                Freshness::NotNewer => {
                    if self.a_release_waits() {
                        self.ask_again_soon();
                    }
                    QueueStatus::Up(queue)
                }
                // The last answer says more about the present.
                Freshness::Older => {
                    self.ask_again_soon();
                    return;
                }
                Freshness::Stale(reason) => {
                    self.ask_again_soon();
                    QueueStatus::Unavailable(reason)
                }
            },
            unavailable @ QueueStatus::Unavailable(_) => unavailable,
        };
        self.take_status(status);
    }

    fn take_status(&mut self, mut status: QueueStatus) {
        let mut pools = self.configuration.policy.pools.values();
        let use_waits = pools.any(|pool| pool.target_wait.is_some());
        if let QueueStatus::Up(queue) = &mut status {
            self.questions.waits.fill_in(queue, self.now);
            if !use_waits {
                // The waits change with every answer. Without `targetWait` no decision depends on them: no new plan for them.
                queue.demand.iter_mut().for_each(|demand| demand.wait_seconds = None);
            }
        }
        match (&self.questions.status, &status) {
            (QueueStatus::Unavailable(_), QueueStatus::Up(_)) if self.is_first_answer() => {}
            (QueueStatus::Unavailable(_), QueueStatus::Up(_)) => {
                self.note(None, None, Happening::QueueAvailable);
            }
            (QueueStatus::Up(_), QueueStatus::Unavailable(reason)) => {
                self.note(None, None, Happening::QueueUnavailable { reason: reason.clone() });
            }
            (QueueStatus::Unavailable(before), QueueStatus::Unavailable(reason)) => {
                if before != reason {
                    self.note(None, None, Happening::QueueUnavailable { reason: reason.clone() });
                }
            }
            (QueueStatus::Up(_), QueueStatus::Up(_)) => {}
        }
        let some_leave =
            self.records.values().any(|record| record.machine.memory.leaving.is_some());
        self.changed |= some_leave || !has_same_content(&self.questions.status, &status);
        self.questions.status = status;
    }

    fn is_first_answer(&self) -> bool {
        self.questions.last == QuestionId(1)
    }

    /// A builder may be stopped only after a status of the last seconds: asks again soon instead of at the regular interval.
    pub(crate) fn request_fresh_status(&mut self) {
        let fresh = ReleaseStep::Await(AwaitReason::FreshStatus);
        let is_wanted = self.plan.release.iter().any(|release| release.step == fresh);
        if is_wanted && self.questions.are_settled() {
            self.ask_again_soon();
        }
    }

    fn ask_again_soon(&mut self) {
        let questions = &mut self.questions;
        if questions.quick < MAX_QUICK_QUESTIONS {
            questions.quick += 1;
            questions.ask_at = Some(self.now.after(ASK_AGAIN_AFTER));
        }
    }

    /// Whether any release waits: whatever it waits for, a newer status may let it continue.
    fn a_release_waits(&self) -> bool {
        let awaits =
            |step: &ReleaseStep| matches!(step, ReleaseStep::Unpublish | ReleaseStep::Await(_));
        self.plan.release.iter().any(|release| awaits(&release.step))
    }

    /// Whether a machine being released waits for an answer that may still arrive in this run: an answer to a
    /// question that was asked after the machine could get no more builds.
    pub(crate) fn awaits_confirmation(&self) -> bool {
        self.plan
            .release
            .iter()
            .filter_map(|release| self.records.get(&release.name))
            // The next run continues with a machine that needs another stop of its builder.
            .filter(|record| record.drains <= 1)
            .any(|record| {
                let memory = &record.machine.memory;
                let since = match memory.in_machines_file {
                    planner::InMachinesFile::NoMore(at) => Some(at),
                    planner::InMachinesFile::Now | planner::InMachinesFile::Never => {
                        memory.leaving.map(|leaving| leaving.drained.unwrap_or(leaving.decided))
                    }
                };
                since.is_some_and(|since| self.questions.answered <= since)
            })
    }
}

/// Whether two statuses have the same content. Values that change only with time are ignored.
fn has_same_content(one: &QueueStatus, other: &QueueStatus) -> bool {
    match (one, other) {
        (QueueStatus::Up(one), QueueStatus::Up(other)) => {
            one.demand == other.demand
                && one.machines == other.machines
                && one.keys == other.keys
                && one.warnings == other.warnings
        }
        (one, other) => one == other,
    }
}

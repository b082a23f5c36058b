//! Looking closely at the host, and cleaning it of what is left over.

use super::{Core, Effect, Owner, command::denied};
use crate::domain::{Admission, CommandBody, JobId, JobState, NoticeLevel, Problem};

impl Core {
    pub(super) fn look_at_host(&mut self, body: CommandBody) -> Admission {
        if self.looking.is_some() {
            return Admission::Ignored("the host is being looked at already".to_owned());
        }
        let job = self.jobs.add("look at the host".into(), None, body, &[], self.now);
        self.jobs.begin(job, false);
        self.looking = Some(job);
        let token = self.token(Owner::Look(job));
        self.out.push(Effect::LookAtHost { token });
        Admission::Queued(job)
    }

    pub(super) fn looked_at_host(&mut self, job: JobId, result: Result<(), Problem>) {
        self.looking = None;
        match result {
            // It is no deed: its trace is the report.
            Ok(()) => self.jobs.remove(job),
            Err(problem) => self.jobs.fail(job, &problem, self.now),
        }
    }

    pub(super) fn clean_host(&mut self, body: CommandBody) -> Admission {
        if self.cleaning.is_some() {
            return Admission::Ignored("the host is being cleaned already".to_owned());
        }
        let Some(report) = &self.host_report else {
            return denied(Problem::new(
                "cannot clean the host",
                "nobody looked at it yet",
                "look at it first: what is removed is what the user was shown",
            ));
        };
        if report.orphans.is_empty() {
            return Admission::Ignored("nothing is left over on the host".to_owned());
        }
        let orphans = report.orphans.clone();
        let steps: Vec<&str> = orphans.iter().map(|orphan| orphan.what.as_str()).collect();
        let job = self.jobs.add("clean the host".into(), None, body, &steps, self.now);
        self.jobs.begin(job, false);
        self.cleaning = Some(job);
        let token = self.token(Owner::Clean(job));
        self.out.push(Effect::CleanHost { token, job, orphans });
        Admission::Queued(job)
    }

    pub(super) fn cleaned_host(&mut self, job: JobId, result: Result<(), Problem>) {
        self.cleaning = None;
        match result {
            Ok(()) => {
                self.jobs.end(job, JobState::Done, self.now);
                let text = "the host is clean of what was left over".to_owned();
                self.notice(NoticeLevel::Info, None, text, "");
            }
            Err(problem) => {
                self.jobs.fail(job, &problem, self.now);
                let text = format!("{}: {}", problem.what, problem.why);
                self.notice(NoticeLevel::Error, None, text, &problem.hint);
            }
        }
    }
}

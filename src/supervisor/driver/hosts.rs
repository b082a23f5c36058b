//! Looking closely at the host, and cleaning it.

use std::sync::Arc;

use super::effects::Effects;
use crate::{
    domain::{JobId, OrphanView, Problem, StepState, StepView},
    supervisor::{
        checkup::{self, Subject},
        core::{Input, Token},
    },
};

impl Effects {
    /// Looks closely at the host.
    pub fn look_at_host(&self, token: Token) {
        self.block(token, |this| {
            this.tell_report();
            Ok(())
        });
    }

    /// Removes what is left over, and looks again.
    pub fn clean_host(&self, token: Token, job: JobId, orphans: Vec<OrphanView>) {
        self.block(token, move |this| {
            let mut steps: Vec<StepView> =
                orphans.iter().map(|orphan| StepView::pending(&orphan.what)).collect();
            let cleaned = checkup::clean(&this.options.layout, &orphans, &mut |index, removed| {
                let Some(step) = steps.get_mut(index) else { return };
                ended(step, removed);
                let log = Vec::new();
                let _ = this.inputs.send(Input::JobProgress { job, steps: steps.clone(), log });
            });
            this.tell_report();
            cleaned
        });
    }

    fn tell_report(&self) {
        let report = checkup::report(&Subject::from(&*self.options));
        let _ = self.inputs.send(Input::HostReport(Arc::new(report)));
    }
}

fn ended(step: &mut StepView, removed: &Result<(), Problem>) {
    match removed {
        Ok(()) => step.state = StepState::Done,
        Err(problem) => {
            step.state = StepState::Failed;
            step.detail.clone_from(&problem.why);
        }
    }
}

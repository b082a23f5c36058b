//! Images of the user's: other names, and none.

use super::{Core, Effect, ImageChange, Owner, command::denied};
use crate::{
    domain::{
        Admission, CommandBody, ImageName, ImageOrigin, ImageView, JobId, JobState, NoticeLevel,
        Problem,
    },
    image::in_use,
};

impl Core {
    pub(super) fn rename_image(
        &mut self,
        old: &ImageName,
        new: &ImageName,
        body: CommandBody,
    ) -> Admission {
        if old == new {
            return Admission::Ignored(format!("{old} has that name"));
        }
        let what = format!("cannot rename the image {old}");
        if let Err(problem) = self.is_users(what.clone(), old) {
            return denied(problem);
        }
        let taken = |all: &Vec<_>| {
            all.iter().any(|image: &crate::domain::ImageView| image.name == new.as_str())
        };
        if self.images.as_ref().is_some_and(taken) {
            let why = format!("there is an image {new}");
            return denied(Problem::new(what, why, "choose another name"));
        }
        let change = ImageChange::Rename(old.clone(), new.clone());
        let (title, text) =
            (format!("rename the image {old} to {new}"), format!("the image {old} is {new} now"));
        self.change_image(title, text, change, body)
    }

    pub(super) fn delete_image(&mut self, name: &ImageName, body: CommandBody) -> Admission {
        // One that cannot be read is in no list, and may have the place of one that is: of what is not
        // known to be the user's, the change itself says whether it can go.
        let own =
            |image: &&ImageView| image.name == name.as_str() && image.origin != ImageOrigin::Bundle;
        let own = self.images.iter().flatten().find(own);
        let users = self.vms.values().filter(|vm| {
            vm.row.spec.image == name.as_str()
                && own.is_some_and(|own| vm.row.made_from.as_ref() == Some(&own.sha256))
        });
        let users: Vec<&str> = users.map(|vm| vm.row.spec.name.as_str()).collect();
        if !users.is_empty() {
            return denied(in_use(name.as_str(), &users));
        }
        let (title, text) =
            (format!("remove the image {name}"), format!("the image {name} was removed"));
        self.change_image(title, text, ImageChange::Delete(name.clone()), body)
    }

    fn change_image(
        &mut self,
        title: String,
        text: String,
        change: ImageChange,
        body: CommandBody,
    ) -> Admission {
        let job = self.jobs.add(title, None, body, &[], self.now);
        self.jobs.begin(job, false);
        let token = self.token(Owner::Image(job, text));
        self.out.push(Effect::ChangeImage { token, change });
        Admission::Queued(job)
    }

    pub(super) fn image_changed(&mut self, job: JobId, text: String, result: Result<(), Problem>) {
        match result {
            Ok(()) => {
                self.jobs.end(job, JobState::Done, self.now);
                self.notice(NoticeLevel::Info, None, text, "");
            }
            Err(problem) => {
                self.jobs.fail(job, &problem, self.now);
                let text = format!("{}: {}", problem.what, problem.why);
                self.notice(NoticeLevel::Error, None, text, &problem.hint);
            }
        }
    }

    /// Whether an image is one of the user's; the change itself has the last word.
    fn is_users(&self, what: String, name: &ImageName) -> Result<(), Problem> {
        // Not looked at yet: the change itself will tell.
        let Some(images) = &self.images else { return Ok(()) };
        match images.iter().find(|image| image.name == name.as_str()) {
            None => {
                let why = format!("there is no image {name}");
                Err(Problem::new(what, why, "`banger images` lists them"))
            }
            Some(image) if image.origin == ImageOrigin::Bundle => {
                let why = "it is part of the runtime directory";
                Err(Problem::new(what, why, "only images of your own can be changed"))
            }
            Some(_) => Ok(()),
        }
    }
}

//! What can be done with images, whichever way it was asked for.

use super::{Images, builds, list::vms_on};
use crate::tui::{
    action::Action,
    event::Handled,
    layers::Cx,
    pane::Run,
    popups::{
        confirm::{Confirm, Then},
        prompt::Prompt,
    },
};

/// A verb on images for a pane: what its tab says, its arguments, and what it makes.
#[must_use]
pub fn verb(title: String, arguments: &[&str], makes: Option<&str>) -> Run {
    let arguments = std::iter::once("images").chain(arguments.iter().copied());
    Run {
        arguments: arguments.map(Into::into).collect(),
        title,
        makes: makes.map(ToOwned::to_owned),
        has_shell: false,
    }
}

impl Images {
    /// Does a verb, or asks first.
    pub(super) fn verb(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        match action {
            Action::ImageImport => {
                cx.push(Box::new(Prompt::import()));
                return Handled::Consumed;
            }
            Action::ImageRebuild
            | Action::ImageExport
            | Action::ImageVerify => {}
            _ => return Handled::Ignored,
        }
        let Some(image) = cx.state.selected_image() else { return Handled::Consumed };
        let name = image.name.clone();
        match action {
            Action::ImageVerify => {
                builds::run(verb(format!("verify {name}"), &["verify", &name], None), false, cx);
            }
            Action::ImageExport => cx.push(Box::new(Prompt::export(&name))),
            _ => {
                let mut lines = Vec::new();
                lines.extend(image.stale.iter().map(|reason| format!("Stale: {reason}.")));
                lines.push("It is built from its recipe again, tried, and put in place.".into());
                match vms_on(image, &cx.state.fleet).0 {
                    0 => {}
                    1 => lines.push("The machine on it stays as it is.".into()),
                    n => lines.push(format!("The {n} machines on it stay as they are.")),
                }
                let mut run = verb(format!("rebuild {name}"), &["rebuild", &name], Some(&name));
                run.has_shell = true;
                let title = format!("Build {name} again?");
                cx.push(Box::new(Confirm::new(title, lines, "Build", Then::Run(run))));
            }
        }
        Handled::Consumed
    }
}

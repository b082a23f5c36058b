//! What can be done with images, whichever way it was asked for.

use super::{Images, builds, list::vms_on};
use crate::domain::{CommandBody, ImageOrigin, NoticeLevel};
use crate::tui::{
    action::Action,
    effect::{Effect, Errand},
    event::{DeskAnswer, Handled, Ticket},
    forms::wizard::{Ask, Draft, Wizard},
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
        draft: None,
    }
}

/// What is waited for before the wizard opens.
#[derive(Debug)]
pub enum Opening {
    /// Nothing: none is to open.
    No,
    /// The recipe that is to be changed.
    Recipe(Ticket),
    /// Whether another draft than this was left.
    Draft(Ticket, Box<Draft>),
}

fn errand(errand: Errand, cx: &mut Cx<'_>) -> Ticket {
    let ticket = cx.state.next_ticket();
    cx.effect(Effect::Desk(ticket, errand));
    ticket
}

impl Images {
    /// Goes on with opening the wizard.
    pub(super) fn errand_done(
        &mut self,
        ticket: Ticket,
        answer: &DeskAnswer,
        cx: &mut Cx<'_>,
    ) -> Handled {
        match (std::mem::replace(&mut self.opening, Opening::No), answer) {
            (Opening::Recipe(asked), DeskAnswer::Facts(facts)) if asked == ticket => {
                match facts.as_ref().map(|facts| &facts.recipe) {
                    Ok(Some(recipe)) => {
                        let draft = Box::new(Draft::of(recipe));
                        self.opening = Opening::Draft(errand(Errand::LoadDraft, cx), draft);
                    }
                    _ => cx.toast(
                        NoticeLevel::Warning,
                        "its recipe cannot be read",
                        "c makes a new one that begins with the image",
                    ),
                }
            }
            (Opening::Draft(asked, new), DeskAnswer::Draft(left)) if asked == ticket => {
                let left = match left {
                    Ok(text) => text.as_deref().map(Draft::read).transpose(),
                    Err(problem) => Err(problem.why.clone()),
                };
                match left {
                    Ok(Some(left)) => cx.push(Box::new(Ask::new(left, *new))),
                    Ok(None) => {
                        let wizard = Wizard::open(*new, cx);
                        cx.push(Box::new(wizard));
                    }
                    Err(why) => {
                        let text = format!("the draft that was left cannot be read: {why}");
                        cx.toast(NoticeLevel::Warning, text, "a new one takes its place");
                        let wizard = Wizard::open(*new, cx);
                        cx.push(Box::new(wizard));
                    }
                }
            }
            (before, _) => {
                self.opening = before;
                return Handled::Ignored;
            }
        }
        Handled::Consumed
    }

    /// Does a verb, or asks first.
    pub(super) fn verb(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        match action {
            Action::ImageImport => {
                cx.push(Box::new(Prompt::import()));
                return Handled::Consumed;
            }
            Action::ImageCustomize
            | Action::ImageRecipe
            | Action::ImageRebuild
            | Action::ImageRename
            | Action::ImageDelete
            | Action::ImageExport
            | Action::ImageVerify => {}
            _ => return Handled::Ignored,
        }
        let Some(image) = cx.state.selected_image() else { return Handled::Consumed };
        let name = image.name.clone();
        match action {
            // Whether a draft was left is known to the disk.
            Action::ImageCustomize => {
                let draft = Draft::new(&name, &cx.state.fleet);
                self.opening = Opening::Draft(errand(Errand::LoadDraft, cx), Box::new(draft));
            }
            Action::ImageRecipe => {
                self.opening = Opening::Recipe(errand(Errand::Facts(name), cx));
            }
            Action::ImageVerify => {
                builds::run(verb(format!("verify {name}"), &["verify", &name], None), cx);
            }
            // What has no such name is not the user's, and none of this is offered for it.
            Action::ImageRename => {
                if let Ok(name) = name.parse() {
                    cx.push(Box::new(Prompt::rename_image(name)));
                }
            }
            Action::ImageDelete => {
                let mut lines = vec![if image.is_shadow() {
                    "It is gone for good; the runtime directory's is there again.".to_owned()
                } else {
                    "It is gone for good; what it was made from stays.".to_owned()
                }];
                let from = cx.state.fleet.images.iter();
                let from = from.filter(|other| {
                    // They find the runtime directory's in its place.
                    !image.is_shadow() && other.parent.as_ref() == Some(&name)
                });
                let names: Vec<&str> = from.map(|other| other.name.as_str()).collect();
                if !names.is_empty() {
                    let text = format!("These cannot be built again then: {}.", names.join(", "));
                    lines.push(text);
                }
                let title = format!("Delete the image {name}?");
                let Ok(name) = name.parse() else { return Handled::Consumed };
                let then = Then::Commands(vec![CommandBody::DeleteImage(name)]);
                cx.push(Box::new(Confirm::new(title, lines, "Delete", then)));
            }
            Action::ImageExport => cx.push(Box::new(Prompt::export(&name))),
            Action::ImageRebuild if image.origin == ImageOrigin::Bundle && !image.own_manifest => {
                let lines = vec![
                    "It is part of the runtime directory: what is stale there is made again."
                        .into(),
                    "Machines on it stay as they are.".to_owned(),
                ];
                let then = Then::Commands(vec![CommandBody::Bootstrap]);
                let title = format!("Make {name} again?");
                cx.push(Box::new(Confirm::new(title, lines, "Make", then)));
            }
            _ => {
                let mut lines = Vec::new();
                lines.extend(image.stale.iter().map(|reason| format!("Stale: {reason}.")));
                lines.push(if image.own_manifest {
                    "It is built with your packages, tried, and goes before the bundled one.".into()
                } else {
                    "It is built from its recipe again, tried, and put in place.".to_owned()
                });
                match vms_on(image, &cx.state.fleet).0 {
                    0 => {}
                    1 => lines.push("The machine on it stays as it is.".into()),
                    n => lines.push(format!("The {n} machines on it stay as they are.")),
                }
                let mut run =
                    verb(format!("rebuild {name}"), &["rebuild", &name, "--yes"], Some(&name));
                run.has_shell = true;
                let title = format!("Build {name} again?");
                cx.push(Box::new(Confirm::new(title, lines, "Build", Then::Run(run))));
            }
        }
        Handled::Consumed
    }
}

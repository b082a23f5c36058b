//! `banger helper …`: installing, removing and looking at the root helper; and the helper itself.

use super::{
    args::{HelperVerb, HostHelper},
    exit::{self, Failure, Outcome},
    out,
};
use crate::{
    domain::Problem,
    host::helper::{self, Installation, Service, Step},
};

/// The helper's process.
///
/// # Errors
/// What it cannot work without.
pub fn serve(arguments: &HostHelper) -> Outcome {
    let service = Service {
        socket: arguments.socket.clone(),
        allow: arguments.allow.clone(),
        state: arguments.state.clone(),
    };
    service.run()?;
    Ok(exit::OK)
}

/// Carries out `banger helper …`.
///
/// # Errors
/// What could not be done.
pub fn run(verb: &HelperVerb) -> Outcome {
    let installation = Installation::of_this_host();
    match verb {
        HelperVerb::Install { user } => {
            let user = helper::user_to_allow(user.as_deref())?;
            said(|tell| installation.install(&user, tell))?;
            let hello = helper::hello(&helper::socket_path())?;
            out::line(format!("the root helper {} is ready for {}", hello.version, user.name))?;
        }
        HelperVerb::Uninstall { force } => {
            said(|tell| installation.uninstall(*force, tell))?;
            out::line("the root helper is removed")?;
        }
        HelperVerb::Status => return status(&installation),
    }
    Ok(exit::OK)
}

/// Does something in steps, and says each.
fn said(work: impl FnOnce(&mut dyn FnMut(&Step)) -> Result<(), Problem>) -> Result<(), Failure> {
    // A reader that is gone does not stop half-way what was begun.
    let mut last = Ok(());
    work(&mut |step| last = out::line(step))?;
    Ok(last?)
}

fn status(installation: &Installation) -> Outcome {
    for line in installation.describe() {
        out::line(line)?;
    }
    let socket = helper::socket_path();
    let hello = helper::hello(&socket)?;
    let own = env!("CARGO_PKG_VERSION");
    let same = if hello.version == own { String::new() } else { format!(" (this is {own})") };
    out::line(format!(
        "version {} answers at {}{same} and works for you, the user {}",
        hello.version,
        socket.display(),
        hello.uid
    ))?;
    Ok(exit::OK)
}

//! `banger runtime status`.

use std::path::Path;

use serde_json::json;

use super::super::{
    exit::{self, Failure, Outcome},
    out,
};
use crate::{
    bundle::{self, Configured, KernelNews, Located, Status},
    domain::ByteSize,
};

/// The version of the JSON.
const VERSION: u32 = 1;

/// Shows what a runtime directory holds. Fails if VMs cannot run from it.
pub(super) fn status(dir: Option<&Path>, configured: &Configured, as_json: bool) -> Outcome {
    let (dir, located) = match dir {
        Some(dir) => (super::absolute(dir)?, None),
        None => {
            let located = bundle::locate(configured)?;
            (located.dir.clone(), Some(located))
        }
    };
    let status = bundle::status(&dir)?;
    if as_json {
        out::line(json(&status, located.as_ref()))?;
    } else {
        text(&status, located.as_ref())?;
    }
    match &status.problem {
        None => Ok(exit::OK),
        Some(problem) => {
            out::error(problem);
            Err(Failure::Said(exit::FAILED))
        }
    }
}

fn text(status: &Status, located: Option<&Located>) -> std::io::Result<()> {
    let why = located.map_or_else(|| "as asked".to_owned(), |located| located.origin.to_string());
    out::line(format!("{} ({why})", status.dir.display()))?;
    if let Some(published) = &status.published {
        out::line(format!("from {}, sha256 {}", published.source, published.sha256))?;
    }
    let width = status.components.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for part in &status.components {
        let size = ByteSize(part.size).to_string();
        out::line(format!("  {:width$}  {size:>9}  {}", part.name, part.version))?;
        out::line(format!("  {:width$}             {}; {}", "", part.purpose, part.licence))?;
    }
    for missing in &status.missing {
        let word = if missing.optional { "not there" } else { "MISSING" };
        out::line(format!("  {:width$}  {word:>9}  {}", missing.name, missing.purpose))?;
    }
    match &status.kernel {
        KernelNews::Current => out::line("apt's lists have no newer kernel")?,
        KernelNews::Newer { package, version } => out::line(format!(
            "a newer kernel is there: {package} {version}; `banger runtime update` fetches it"
        ))?,
        KernelNews::Unknown(why) => {
            out::line(format!("whether there is a newer kernel is not known: {why}"))?;
        }
    }
    if let Some(previous) = &status.previous {
        let parts: Vec<_> =
            previous.iter().map(|(name, version)| format!("{name} {version}")).collect();
        out::line(format!("`banger runtime rollback` goes back to: {}", parts.join(", ")))?;
    }
    Ok(())
}

fn json(status: &Status, located: Option<&Located>) -> serde_json::Value {
    let components = status.components.iter().map(|part| {
        json!({
            "name": part.name,
            "version": part.version,
            "size_bytes": part.size,
            "files": part.files,
            "licence": part.licence,
            "purpose": part.purpose,
        })
    });
    let missing = status.missing.iter().map(|missing| {
        json!({
            "name": missing.name, "purpose": missing.purpose, "optional": missing.optional,
        })
    });
    let kernel = match &status.kernel {
        KernelNews::Current => json!({"state": "current"}),
        KernelNews::Newer { package, version } => {
            json!({"state": "newer", "package": package, "version": version})
        }
        KernelNews::Unknown(why) => json!({"state": "unknown", "why": why}),
    };
    let previous = status.previous.as_ref().map(|parts| {
        let part = |(name, version): &(String, String)| json!({"name": name, "version": version});
        parts.iter().map(part).collect::<Vec<_>>()
    });
    json!({
        "version": VERSION,
        "dir": status.dir,
        "origin": located.map(|located| located.origin.to_string()),
        "published": status.published,
        "components": components.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
        "kernel": kernel,
        "previous": previous,
        "problem": status.problem,
    })
}
